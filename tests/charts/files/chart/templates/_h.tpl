{{ define "files.who" }}you{{ end }}
