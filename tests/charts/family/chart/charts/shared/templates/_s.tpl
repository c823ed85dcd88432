{{- define "shared.greeting" -}}hello {{ .who }}{{- end -}}
