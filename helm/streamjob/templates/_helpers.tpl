{{- define "streamjob.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "streamjob.selector" -}}
app.kubernetes.io/name: streamjob-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "streamjob.labels" -}}
{{ include "streamjob.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "streamjob.name" -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}-operator
{{- end }}

{{- /* Of what belongs to the whole cluster: two releases must not meet. */}}
{{- define "streamjob.clusterName" -}}
{{ .Release.Namespace }}-{{ include "streamjob.name" . }}
{{- end }}
