{{- define "who" }}"the child"{{ end -}}
