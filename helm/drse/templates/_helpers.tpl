{{/* Names start with the release's; a release named after the chart is not named twice. */}}
{{- define "drse.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "drse.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "drse.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "drse.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "drse.operator" -}}{{ include "drse.fullname" . }}-operator{{- end -}}
{{- define "drse.forecaster" -}}{{ include "drse.fullname" . }}-forecaster{{- end -}}
{{- define "drse.console" -}}{{ include "drse.fullname" . }}-console{{- end -}}

{{- define "drse.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ include "drse.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: drse
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels of one component. Takes (dict "root" $ "component" "operator"). */}}
{{- define "drse.componentLabels" -}}
{{ include "drse.labels" .root }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "drse.selectorLabels" -}}
app.kubernetes.io/name: {{ include "drse.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Labels of a component's pods: common and own ones, never over those that the Deployment selects by. */}}
{{- define "drse.podLabels" -}}
{{- $own := fromYaml (include "drse.componentLabels" .) -}}
{{- toYaml (merge $own (.values.podLabels | default dict)) -}}
{{- end -}}

{{- define "drse.image" -}}
{{- $image := .values.image -}}
{{- with .root.Values.image.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{ $image.repository }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- with $image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{/* Where pods run. Constraints without a selector spread the component's own pods. */}}
{{- define "drse.placement" -}}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- $selector := dict "labelSelector" (dict "matchLabels" (fromYaml (include "drse.selectorLabels" .))) -}}
{{- with .values.topologySpreadConstraints }}
topologySpreadConstraints:
{{- range . }}
  - {{- toYaml (merge (deepCopy .) $selector) | nindent 4 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Both programs answer on these two paths. */}}
{{- define "drse.probes" -}}
livenessProbe:
  httpGet:
    path: /healthz
    port: http
  {{- toYaml .livenessProbe | nindent 2 }}
readinessProbe:
  httpGet:
    path: /readyz
    port: http
  {{- toYaml .readinessProbe | nindent 2 }}
{{- end -}}

{{/* What stands before the uids of the boards. */}}
{{- define "drse.uidPrefix" -}}
{{- with .Values.dashboards.uidPrefix }}{{ . }}-{{ end -}}
{{- end -}}

{{- define "drse.egressToDns" -}}
- ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
{{- end -}}

{{/* How forecaster and console ask Prometheus, and by which metrics they know the use of GPUs. */}}
{{- define "drse.prometheusFolder" -}}/var/run/secrets/drse/prometheus{{- end -}}

{{- define "drse.prometheusArgs" -}}
{{- $prometheus := .Values.prometheus -}}
- --prometheus-url={{ $prometheus.url }}
{{- if $prometheus.tokenSecret.name }}
- --prometheus-token-file={{ include "drse.prometheusFolder" . }}/token
{{- end }}
{{- if ($prometheus.ca).configMap }}
- --prometheus-ca-file={{ include "drse.prometheusFolder" . }}/ca.crt
{{- end }}
{{- if $prometheus.insecureSkipTLSVerify }}
- --insecure-skip-tls-verify
{{- end }}
{{- range .Values.forecaster.utilizationMetrics }}
- --utilization-metric={{ . }}
{{- end }}
{{- end -}}

{{/* Nothing where neither a token nor certificates are given. */}}
{{- define "drse.prometheusMount" -}}
{{- if or .Values.prometheus.tokenSecret.name (.Values.prometheus.ca).configMap }}
- name: prometheus
  mountPath: {{ include "drse.prometheusFolder" . }}
  readOnly: true
{{- end }}
{{- end -}}

{{- define "drse.prometheusVolume" -}}
{{- $token := .Values.prometheus.tokenSecret -}}
{{- $ca := .Values.prometheus.ca | default dict -}}
{{- if or $token.name $ca.configMap }}
- name: prometheus
  projected:
    sources:
      {{- if $token.name }}
      - secret:
          name: {{ $token.name }}
          items:
            - key: {{ $token.key }}
              path: token
      {{- end }}
      {{- if $ca.configMap }}
      - configMap:
          name: {{ $ca.configMap }}
          items:
            - key: {{ $ca.key }}
              path: ca.crt
      {{- end }}
{{- end }}
{{- end -}}

{{/* Where forecasts are asked for; with several shards the name has an address for each. */}}
{{- define "drse.forecasterURL" -}}
{{- $shards := ternary "-shards" "" (gt (int .Values.forecaster.replicas) 1) -}}
http://{{ include "drse.forecaster" . }}{{ $shards }}.{{ .Release.Namespace }}.svc:{{ .Values.forecaster.port }}
{{- end }}
