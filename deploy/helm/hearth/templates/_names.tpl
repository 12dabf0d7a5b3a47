{{- /* The prefix of every name: the release's, with the chart's where that is not in it. */ -}}
{{- define "hearth.name" -}}
{{- $name := ternary .Release.Name (printf "%s-hearth" .Release.Name) (contains "hearth" .Release.Name) -}}
{{- $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- /* What selects the pods of one component. Takes a list of the root and the component. */ -}}
{{- define "hearth.selector" -}}
app.kubernetes.io/name: hearth
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- /* Metadata of an object of one component. Takes a list of the root, the component, and a name if it has one of its own. */ -}}
{{- define "hearth.meta" -}}
name: {{ if gt (len .) 2 }}{{ index . 2 }}{{ else }}{{ include "hearth.name" (index . 0) }}-{{ index . 1 }}{{ end }}
namespace: {{ (index . 0).Release.Namespace }}
labels:
  {{- include "hearth.selector" . | nindent 2 }}
  app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
  helm.sh/chart: {{ (index . 0).Chart.Name }}-{{ (index . 0).Chart.Version }}
{{- end -}}

{{- /* An image. Takes a list of the root, the service, and what its tag ends with. */ -}}
{{- define "hearth.image" -}}
{{- with (index . 0).Values.image -}}
{{ with .registry }}{{ . }}/{{ end }}hearth/{{ index $ 1 }}:{{ .tag | default (index $ 0).Chart.AppVersion }}{{ index $ 2 }}
{{- end -}}
{{- end -}}
