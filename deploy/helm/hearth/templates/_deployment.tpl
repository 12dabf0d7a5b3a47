{{- /*
The Deployment of a component and its PodDisruptionBudget: what all have in common, in one place. Takes a dict:

root, component, values; image; command (a list, optional); env, ports, probes, mounts, volumes (YAML text);
grace: seconds between SIGTERM and SIGKILL; scaled: somebody else sets the number of pods;
worker: its process starts others, so the pod's pause process reaps what loses its parent, as an init would;
surge: whether a new pod may begin before an old one has ended; sidecars: containers that are there before the component's
own and until it has ended (YAML text, optional); tmp: the size of /tmp, 5Gi where it is left out.
*/ -}}
{{- define "hearth.deployment" -}}
{{- $root := .root -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "hearth.meta" (list $root .component) | nindent 2 }}
spec:
  {{- if not .scaled }}
  replicas: {{ .values.replicas }}
  {{- end }}
  revisionHistoryLimit: 3
  strategy:
    rollingUpdate: {{ ternary "{maxSurge: 1, maxUnavailable: 0}" "{maxSurge: 0, maxUnavailable: 1}" .surge }}
  selector:
    matchLabels:
      {{- include "hearth.selector" (list $root .component) | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "hearth.selector" (list $root .component) | nindent 8 }}
      {{- with .annotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      serviceAccountName: {{ include "hearth.name" $root }}
      automountServiceAccountToken: false
      # A Service named hearth-gateway would put HEARTH_GATEWAY_PORT=tcp://... into every pod, and stop it
      enableServiceLinks: false
      {{- if .worker }}
      shareProcessNamespace: true
      {{- end }}
      {{- include "hearth.pod" (dict "root" $root "component" .component "values" .values) | nindent 6 }}
      terminationGracePeriodSeconds: {{ .grace }}
      {{- with .sidecars }}
      initContainers:
        {{- . | trim | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ .component }}
          image: {{ .image }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          {{- with .command }}
          command: {{ toJson . }}
          {{- end }}
          securityContext:
            {{- include "hearth.confined" . | nindent 12 }}
          env:
            {{- .env | trim | nindent 12 }}
          {{- with .ports }}
          ports:
            {{- . | trim | nindent 12 }}
          {{- end }}
          {{- .probes | trim | nindent 10 }}
          resources:
            {{- include "hearth.resources" .values | nindent 12 }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
            {{- with .mounts }}
            {{- . | trim | nindent 12 }}
            {{- end }}
      volumes:
        - {name: tmp, emptyDir: {sizeLimit: {{ .tmp | default "5Gi" }}}}
        {{- with .volumes }}
        {{- . | trim | nindent 8 }}
        {{- end }}
{{- if $root.Values.podDisruptionBudget.enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "hearth.meta" (list $root .component) | nindent 2 }}
spec:
  maxUnavailable: {{ $root.Values.podDisruptionBudget.maxUnavailable }}
  selector:
    matchLabels:
      {{- include "hearth.selector" (list $root .component) | nindent 6 }}
{{- end }}
{{- end -}}

{{- /* What every pod has: where it may run, and as whom. Takes a dict: root, component, values. */ -}}
{{- define "hearth.pod" -}}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "hearth.selector" (list .root .component) | nindent 8 }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- /* The security context of every container. */ -}}
{{- define "hearth.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- /* A component's resources, with its GPUs. */ -}}
{{- define "hearth.resources" -}}
{{- $found := deepCopy .resources -}}
{{- if .gpus -}}
{{- $_ := set $found.limits "nvidia.com/gpu" .gpus -}}
{{- end -}}
{{- toYaml $found -}}
{{- end -}}

{{- /*
Probes of a service with HTTP. It has started once Redis and S3 answer; after that only the process itself counts: while
a store is away its own answer says so, and no restart would bring the store back. Takes the port's name.
*/ -}}
{{- define "hearth.probes.http" -}}
startupProbe:
  httpGet: {path: /health/ready, port: {{ . }}}
  periodSeconds: 5
  timeoutSeconds: 4
  failureThreshold: 120
readinessProbe:
  httpGet: {path: /health/live, port: {{ . }}}
  periodSeconds: 5
  timeoutSeconds: 4
livenessProbe:
  httpGet: {path: /health/live, port: {{ . }}}
  periodSeconds: 10
  timeoutSeconds: 10
  failureThreshold: 6
{{- end -}}

{{- /* Probes of an RQ worker: it has started once it is registered; while Redis is away it is left alone. Takes its name. */ -}}
{{- define "hearth.probes.worker" -}}
startupProbe:
  exec: {command: [python, -m, hearth_jobs.alive, {{ . }}]}
  periodSeconds: 10
  timeoutSeconds: 30
  failureThreshold: 60
livenessProbe:
  exec: {command: [python, -m, hearth_jobs.alive, {{ . }}, --redis-or-not]}
  periodSeconds: 60
  timeoutSeconds: 30
  failureThreshold: 3
{{- end -}}

{{- /* The claim of a shared volume. Takes a list of the root and the volume's name. */ -}}
{{- define "hearth.claim" -}}
{{- (index (index . 0).Values.volumes (index . 1)).existingClaim | default (printf "%s-%s" (include "hearth.name" (index . 0)) (index . 1)) -}}
{{- end -}}
