name: {{ .Release.Name }}
list:
{{- range $i, $x := .Values.items }}
  - {{ $i }}={{ $x }}
{{- end }}
