{{- /* A setting whose value is in the stores' Secret. Takes a list of the root, the setting, and the value that names its key. */ -}}
{{- define "hearth.env.secret" -}}
- name: {{ index . 1 }}
  valueFrom:
    secretKeyRef:
      name: {{ required "stores.secret must name the Secret with the addresses and keys of Redis and S3" (index . 0).Values.stores.secret }}
      key: {{ index (index . 0).Values.stores (index . 2) }}
{{- end -}}

{{- define "hearth.env.redis" -}}
{{ include "hearth.env.secret" (list . "HEARTH_REDIS_URL" "redisUrlKey") }}
{{- end -}}

{{- define "hearth.env.s3" -}}
- {name: HEARTH_S3_ENDPOINT, value: {{ required "stores.s3Endpoint must be set: host:port" .Values.stores.s3Endpoint | quote }}}
- {name: HEARTH_S3_SECURE, value: {{ .Values.stores.s3Secure | quote }}}
- {name: HEARTH_S3_REGION, value: {{ .Values.stores.s3Region | quote }}}
{{ include "hearth.env.secret" (list . "HEARTH_S3_ACCESS_KEY" "s3AccessKey") }}
{{ include "hearth.env.secret" (list . "HEARTH_S3_SECRET_KEY" "s3SecretKey") }}
{{- end -}}

{{- /* `settings` of all services, then of this one, which has the last word. */ -}}
{{- define "hearth.env.settings" -}}
{{- with (index . 0).Values.traces.endpoint }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- range $name, $value := merge (dict) (index . 1) (index . 0).Values.settings }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end -}}

{{- /* For those that ask the model hub. */ -}}
{{- define "hearth.env.hub" -}}
{{- with .Values.hub.secret }}
- name: HF_TOKEN
  valueFrom:
    secretKeyRef: {name: {{ . }}, key: {{ $.Values.hub.tokenKey }}}
{{- end }}
{{- with .Values.hub.endpoint }}
- {name: HF_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- end -}}
