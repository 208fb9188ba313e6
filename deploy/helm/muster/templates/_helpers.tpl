{{/* The name before every object's: the release's, with the chart's unless it has it already. */}}
{{- define "muster.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects a process's pods. Nothing that changes with a release: a selector cannot change, and another label of a
     pod restarts it. Takes a list of root and the process's name, as all below do. */}}
{{- define "muster.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "muster.labels" -}}
{{- $root := index . 0 -}}
{{ include "muster.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end -}}

{{- define "muster.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* The values of a process: its section. */}}
{{- define "muster.values" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- if hasKey $root.Values.processes $name -}}
{{- index $root.Values.processes $name | toJson -}}
{{- else -}}
{{- index $root.Values $name | toJson -}}
{{- end -}}
{{- end -}}

{{/* Names that a listener answers to: those given, and those by which its Service is called within the cluster, as the
     console does. Takes a list of root, the process's name and the given ones. */}}
{{- define "muster.hosts" -}}
{{- $root := index . 0 -}}
{{- $service := printf "%s-%s" (include "muster.fullname" $root) (index . 1) -}}
{{- $inNamespace := printf "%s.%s" $service $root.Release.Namespace -}}
{{- index . 2 }},{{ $service }},{{ $inNamespace }},{{ $inNamespace }}.svc,{{ $inNamespace }}.svc.cluster.local
{{- end -}}

{{/* The environment of a process: those settings that it reads, its own section's before everybody's, and a file for each
     secret. Fails where a setting is nobody's, or one that it must have is missing. */}}
{{- define "muster.environment" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $values := include "muster.values" . | fromJson -}}
{{- $taken := index ($root.Files.Get "files/variables.json" | fromJson) $name -}}
{{- $environment := dict -}}
{{- if eq $name "console" -}}
{{- $services := include "muster.fullname" $root -}}
{{- range $api, $port := dict "command" 8000 "query" 8001 "events" 8005 -}}
{{- $service := ternary "event" $api (eq $api "events") -}}
{{- $_ := set $environment (printf "CONSOLE_%s_URL" (upper $api)) (printf "http://%s-%s-api:%d" $services $service $port) -}}
{{- end -}}
{{- range $api, $port := dict "command" 8010 "query" 8011 "events" 8012 -}}
{{- $service := ternary "event" $api (eq $api "events") -}}
{{- $_ := set $environment (printf "CONSOLE_%s_OPS_URL" (upper $api)) (printf "http://%s-%s-api-inner:%d" $services $service $port) -}}
{{- end -}}
{{- end -}}
{{- range $variable, $value := $root.Values.settings -}}
{{- if and (has $variable $taken.settings) (not (kindIs "invalid" $value)) }}{{ $_ := set $environment $variable $value }}{{ end -}}
{{- end -}}
{{- range $variable, $value := $values.settings -}}
{{- if not (has $variable $taken.settings) -}}
{{- fail (printf "%s does not read %s as a setting: see docs/reference/settings.md; a secret belongs to `secrets`" $name $variable) -}}
{{- end -}}
{{- if not (kindIs "invalid" $value) }}{{ $_ := set $environment $variable $value }}{{ end -}}
{{- end -}}
{{- with get $environment "ALLOWED_HOSTS" -}}
{{- $_ := set $environment "ALLOWED_HOSTS" (include "muster.hosts" (list $root $name .)) -}}
{{- end -}}
{{- range $variable, $_ := $values.secrets -}}
{{- if not (has $variable $taken.secrets) -}}
{{- fail (printf "%s reads no secret %s: see docs/reference/settings.md" $name $variable) -}}
{{- end -}}
{{- $_ := set $environment (printf "%s_FILE" $variable) (printf "/secrets/%s" $variable) -}}
{{- end -}}
{{- $required := $taken.required -}}
{{- if and (hasPrefix "SASL" (get $environment "KAFKA_SECURITY_PROTOCOL")) (has "KAFKA_SASL_USERNAME" $taken.settings) -}}
{{- $required = append $required (list "KAFKA_SASL_USERNAME") -}}
{{- $required = append $required (list "KAFKA_SASL_PASSWORD") -}}
{{- end -}}
{{- if hasKey $environment "CONSOLE_OIDC_ISSUER" -}}
{{- $required = append $required (list "CONSOLE_OIDC_CLIENT_ID") -}}
{{- $required = append $required (list "PUBLIC_CONSOLE_URL") -}}
{{- end -}}
{{- range $alternatives := $required -}}
{{- $given := false -}}
{{- range $alternatives -}}
{{- if or (get $environment . | toString) (get $environment (printf "%s_FILE" .)) }}{{ $given = true }}{{ end -}}
{{- end -}}
{{- if not $given -}}
{{- fail (printf "%s needs %s: give it in `settings`, or a Secret for it in `secrets`" $name (join " or " $alternatives)) -}}
{{- end -}}
{{- end -}}
{{- range $variable, $value := $environment }}
{{- /* YAML's numbers are floats here: 604800000, not 6.048e+08. */}}
{{- $whole := and (kindIs "float64" $value) (eq (floor $value) $value) }}
- {name: {{ $variable }}, value: {{ ternary ($value | int64) $value $whole | toString | quote }}}
{{- end -}}
{{- end -}}

{{/* Files of secrets, a source for each variable: what the Secret has beside them is not mounted. */}}
{{- define "muster.volumes" -}}
{{- $root := index . 0 -}}
{{- $values := include "muster.values" . | fromJson -}}
- name: tmp
  emptyDir: {medium: Memory, sizeLimit: 64Mi}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- range $variable, $source := $values.secrets }}
      - secret:
          name: {{ $source.name }}
          items: [{key: {{ $source.key | default $variable }}, path: {{ $variable }}}]
      {{- end }}
{{- with $root.Values.volumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The container's part that is the same for all. */}}
{{- define "muster.container" -}}
{{- $root := index . 0 -}}
image: {{ include "muster.image" $root | quote }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
volumeMounts:
  # For the counters that several workers of one API share; nothing else is written.
  - {name: tmp, mountPath: /tmp}
  - {name: secrets, mountPath: /secrets, readOnly: true}
  {{- with $root.Values.volumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* The pod's part that is the same for all. */}}
{{- define "muster.pod" -}}
{{- $root := index . 0 -}}
# Nothing here asks Kubernetes for anything.
automountServiceAccountToken: false
# Kubernetes would add variables for each Service, such as COMMAND_API_PORT, which mean something else here.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  # So that the process may read its secrets.
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}
