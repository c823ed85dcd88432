{{- define "who" }}"the parent"{{ end -}}
