{{- /* Whether there is one: `true` or nothing. Values of an older chart (`--reuse-values`) say nothing of it. */ -}}
{{- define "hearth.ray.on" -}}
{{- if dig "ray" "enabled" false .Values.training -}}
{{- if not .Values.training.ray.workers -}}
{{- fail "training.ray has no workers: with values of an older chart say --reset-then-reuse-values instead of --reuse-values" -}}
{{- end -}}
true
{{- end -}}
{{- end -}}

{{- /* The Ray cluster. KubeRay calls the Service of its head NAME-head-svc, and cuts what is longer than 50 characters. */ -}}
{{- define "hearth.ray.name" -}}
{{- include "hearth.name" . | trunc 37 | trimSuffix "-" -}}-ray
{{- end -}}

{{- define "hearth.ray.address" -}}
{{- include "hearth.ray.name" . -}}-head-svc.{{ .Release.Namespace }}.svc:6379
{{- end -}}

{{- /* Ray's version, from what the images' locks are made of. */ -}}
{{- define "hearth.ray.version" -}}
{{- .Files.Get "files/ray.in" | regexFind "==[0-9.]+" | trimPrefix "==" | required "files/ray.in names no version of Ray" -}}
{{- end -}}

{{- define "hearth.ray.image" -}}
{{- include "hearth.image" (list . "training" (ternary "-ray-gpu" "-ray-cpu" (gt (int .Values.training.ray.workers.gpus) 0))) -}}
{{- end -}}

{{- /* The bytes of Ray's object store: half of a pod's shared memory, the rest is NCCL's. Takes a quantity. */ -}}
{{- define "hearth.ray.store" -}}
{{- $number := regexFind "^[0-9.]+" . -}}
{{- $units := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- divf (mulf (float64 $number) (get $units (trimPrefix $number .))) 2 | int64 -}}
{{- end -}}

{{- /* Ray's own authentication, for all that speak with the cluster. */ -}}
{{- define "hearth.ray.token" -}}
{{- with .Values.training.ray.tokenSecret }}
- {name: RAY_AUTH_MODE, value: token}
- name: RAY_AUTH_TOKEN
  valueFrom:
    secretKeyRef: {name: {{ . }}, key: auth_token}
{{- end }}
{{- end -}}

{{- /* The environment of a Ray node. It has no key of S3's or Redis's: files go through Ray. */ -}}
{{- define "hearth.ray.env" -}}
{{- include "hearth.ray.token" . }}
{{- range $name, $value := .Values.training.ray.settings }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end -}}

{{- /* Values that contradict each other. */ -}}
{{- define "hearth.ray.check" -}}
{{- $training := .Values.training -}}
{{- $own := list "HEARTH_TRAINING_EXECUTOR" "HEARTH_RAY_ADDRESS" "HEARTH_RAY_GPUS_PER_WORKER" -}}
{{- range $name := $own -}}
{{- if or (hasKey $.Values.settings $name) (hasKey $training.settings $name) -}}
{{- fail (printf "%s is set by training.ray: leave it out of settings" $name) -}}
{{- end -}}
{{- end -}}
{{- if include "hearth.ray.on" . -}}
{{- $ray := $training.ray -}}
{{- $scaling := $ray.workers.autoscaling -}}
{{- $shared := dict "training" $training "training.ray.head" $ray.head "training.ray.workers" $ray.workers -}}
{{- range $of, $values := $shared -}}
{{- if lt (include "hearth.ray.store" $values.sharedMemory | int64) 78643200 -}}
{{- fail (printf "%s.sharedMemory must be 150Mi or more: half of it is Ray's object store, which takes 75 MiB at least" $of) -}}
{{- end -}}
{{- end -}}
{{- range $name := list "RAY_AUTH_MODE" "RAY_AUTH_TOKEN" -}}
{{- if hasKey $ray.settings $name -}}
{{- fail (printf "%s is set by training.ray.tokenSecret, which names a Secret: leave it out of training.ray.settings" $name) -}}
{{- end -}}
{{- end -}}
{{- if $training.gpus -}}
{{- fail "training.gpus must be 0 with training.ray.enabled: nothing trains in the worker's own pod; GPUs are training.ray.workers.gpus" -}}
{{- end -}}
{{- if and (not .Values.networkPolicy.enabled) (not $ray.tokenSecret) -}}
{{- fail "training.ray.tokenSecret must be set where networkPolicy.enabled is false: whoever reaches Ray's ports runs code on its nodes" -}}
{{- end -}}
{{- if and $scaling.enabled (gt (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
{{- fail "training.ray.workers.autoscaling.minReplicas must not be more than maxReplicas" -}}
{{- end -}}
{{- if and (not $scaling.enabled) (lt (int $ray.workers.replicas) 1) -}}
{{- fail "training.ray.workers.replicas must be 1 or more, or no run ever trains; training.ray.workers.autoscaling goes down to 0" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /*
A pod of the cluster, as KubeRay's groups take it. KubeRay makes the command, `ray start` with the group's parameters, and
finds `ray` on the path. Takes a dict: root, component, values; port: where its process listens once it is up;
portName; mounts, volumes (YAML text, optional); tmp: the size of /tmp; own: KubeRay gives it an account of its own.
*/ -}}
{{- define "hearth.ray.template" -}}
metadata:
  labels:
    {{- include "hearth.selector" (list .root .component) | nindent 4 }}
spec:
  {{- if not .own }}
  serviceAccountName: {{ include "hearth.name" .root }}
  {{- end }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- include "hearth.pod" (dict "root" .root "component" .component "values" .values) | nindent 2 }}
  terminationGracePeriodSeconds: 30
  containers:
    - name: {{ .component }} # the first container is Ray's to KubeRay
      image: {{ include "hearth.ray.image" .root }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      securityContext:
        {{- include "hearth.confined" . | nindent 8 }}
      {{- with include "hearth.ray.env" .root | trim }}
      env:
        {{- . | nindent 8 }}
      {{- end }}
      ports:
        - {name: {{ .portName }}, containerPort: {{ .port }}}
      # KubeRay's own probes ask Ray's dashboard with wget, and the image has neither
      {{- include "hearth.ray.probes" .port | nindent 6 }}
      readinessProbe:
        tcpSocket: {port: {{ .port }}}
        periodSeconds: 5
      lifecycle: # a node that says goodbye is missed at once
        preStop: {exec: {command: [ray, stop]}}
      resources:
        {{- include "hearth.resources" .values | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        - {name: memory, mountPath: /dev/shm}
        {{- with .mounts }}
        {{- . | trim | nindent 8 }}
        {{- end }}
  volumes:
    - {name: tmp, emptyDir: {sizeLimit: {{ .tmp }}}}
    - {name: memory, emptyDir: {medium: Memory, sizeLimit: {{ .values.sharedMemory }}}}
    {{- with .volumes }}
    {{- . | trim | nindent 4 }}
    {{- end }}
{{- end -}}

{{- /* Whether Ray's process listens. Takes the port. */ -}}
{{- define "hearth.ray.probes" -}}
startupProbe:
  tcpSocket: {port: {{ . }}}
  periodSeconds: 2
  failureThreshold: 90
livenessProbe:
  tcpSocket: {port: {{ . }}}
  periodSeconds: 10
  timeoutSeconds: 10
  failureThreshold: 6
{{- end -}}

{{- /*
The sidecar that makes of a training pod a node of the cluster, on which nothing trains. It is there before the worker
takes a run, and goes after it: a run that is told to stop saves its checkpoint through Ray.
*/ -}}
{{- define "hearth.ray.sidecar" -}}
- name: ray
  image: {{ include "hearth.ray.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  restartPolicy: Always
  command:
    - ray
    - start
    - --address={{ include "hearth.ray.address" . }}
    - --num-cpus=0
    - --num-gpus=0
    - --node-manager-port=6380
    - --object-store-memory={{ include "hearth.ray.store" .Values.training.sharedMemory }}
    - --disable-usage-stats
    - --block
  securityContext:
    {{- include "hearth.confined" . | nindent 4 }}
  {{- with include "hearth.ray.env" . | trim }}
  env:
    {{- . | nindent 4 }}
  {{- end }}
  {{- include "hearth.ray.probes" 6380 | nindent 2 }}
  resources:
    {{- toYaml .Values.training.ray.node.resources | nindent 4 }}
  volumeMounts: # the driver, in the worker's container, finds Ray's sockets and memory there
    - {name: tmp, mountPath: /tmp}
    - {name: memory, mountPath: /dev/shm}
{{- end -}}
