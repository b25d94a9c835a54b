// Package check holds what is deployed against the libraries of what reads it:
// the Helm chart is rendered, and the compose file loaded, as those would. It is
// a module of its own, so that their dependencies are nobody else's.
package check_test

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"go.yaml.in/yaml/v3"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
)

// TestCompose loads the compose file as docker compose does.
func TestCompose(t *testing.T) {
	options, err := cli.NewProjectOptions([]string{filepath.Join("..", "compose.yaml")}, cli.WithName("causeway"), cli.WithResolvedPaths(true))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	got := slices.Sorted(maps.Keys(project.Services))
	want := []string{"grafana", "ingest", "nats-1", "nats-2", "nats-3", "prometheus", "sink", "streams", "transform"}
	if !slices.Equal(got, want) {
		t.Errorf("services %v, want %v", got, want)
	}
	for _, stage := range []string{"ingest", "transform", "sink"} {
		s := project.Services[stage]
		if !s.ReadOnly || len(s.CapDrop) == 0 || s.Restart == "" {
			t.Errorf("%s is not as narrow as it can be, or isn't restarted", stage)
		}
		if _, waits := s.DependsOn["streams"]; !waits {
			t.Errorf("%s does not wait for the streams", stage)
		}
	}
}

// render renders the chart with values over its own.
func render(t *testing.T, values map[string]any) []string {
	t.Helper()
	chart, err := loader.Load(filepath.Join("..", "helm", "causeway"))
	if err != nil {
		t.Fatal(err)
	}
	if err := chartutil.ProcessDependencies(chart, values); err != nil {
		t.Fatal(err)
	}
	all, err := chartutil.ToRenderValues(chart, values, chartutil.ReleaseOptions{Name: "sync", Namespace: "causeway", IsInstall: true}, chartutil.DefaultCapabilities)
	if err != nil {
		t.Fatal(err) // the schema of the values speaks here
	}
	files, err := engine.Render(chart, all)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		for doc := range strings.SplitSeq(files[name], "\n---") {
			if strings.TrimSpace(doc) != "" && !strings.HasSuffix(name, ".tpl") {
				out = append(out, doc)
			}
		}
	}
	return out
}

// strict reads an object of Kubernetes, of which an unknown field is an error.
func strict() runtime.Decoder {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{appsv1.AddToScheme, batchv1.AddToScheme, corev1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme} {
		utilruntime.Must(add(scheme))
	}
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
}

// TestHelm renders the chart in its variants and reads each object.
func TestHelm(t *testing.T) {
	tests := []struct {
		name   string
		values map[string]any
		want   map[string]int // objects by kind
	}{
		{"as it comes", nil, map[string]int{"ConfigMap": 1, "Deployment": 3, "Service": 3, "PodDisruptionBudget": 3, "NetworkPolicy": 3, "Job": 1}},
		{"everything", map[string]any{
			"nats":    map[string]any{"nkeySecret": "causeway-nkeys"},
			"keda":    map[string]any{"enabled": true},
			"ingress": map[string]any{"enabled": true, "className": "nginx", "tls": []any{map[string]any{"hosts": []any{"hooks.example.org"}, "secretName": "hooks"}}}, "serviceMonitor": true,
		}, map[string]int{"ConfigMap": 1, "Deployment": 3, "Service": 3, "PodDisruptionBudget": 3, "NetworkPolicy": 3, "Job": 1, "Ingress": 1, "ScaledObject": 1, "ServiceMonitor": 1}},
		{"little", map[string]any{
			"streams": map[string]any{"apply": false}, "podDisruptionBudget": false, "networkPolicy": map[string]any{"enabled": false}, "secrets": []any{},
		}, map[string]int{"ConfigMap": 1, "Deployment": 3, "Service": 3}},
	}
	decoder := strict()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := map[string]int{}
			for _, doc := range render(t, tt.values) {
				var head struct{ APIVersion, Kind string }
				if err := yaml.Unmarshal([]byte(strings.ReplaceAll(doc, "apiVersion:", "apiversion:")), &head); err != nil {
					t.Fatalf("%v in\n%s", err, doc)
				}
				if head.Kind == "" {
					continue // comments
				}
				got[head.Kind]++
				if strings.HasPrefix(head.APIVersion, "keda.sh/") || strings.HasPrefix(head.APIVersion, "monitoring.coreos.com/") {
					continue // read above; their types are not Kubernetes'
				}
				object, _, err := decoder.Decode([]byte(doc), nil, nil)
				if err != nil {
					t.Errorf("%s: %v in\n%s", head.Kind, err, doc)
					continue
				}
				if d, ok := object.(*appsv1.Deployment); ok {
					checkDeployment(t, d)
				}
			}
			if !maps.Equal(got, tt.want) {
				t.Errorf("objects %v, want %v", got, tt.want)
			}
		})
	}
}

// checkDeployment: what it selects is what it makes, it is probed, and it runs
// as nobody.
func checkDeployment(t *testing.T, d *appsv1.Deployment) {
	t.Helper()
	for k, v := range d.Spec.Selector.MatchLabels {
		if d.Spec.Template.Labels[k] != v {
			t.Errorf("%s selects %s=%s, its pods have %q", d.Name, k, v, d.Spec.Template.Labels[k])
		}
	}
	c := d.Spec.Template.Spec.Containers[0]
	if c.ReadinessProbe == nil || c.LivenessProbe == nil || c.StartupProbe == nil {
		t.Errorf("%s is not probed", d.Name)
	}
	if s := d.Spec.Template.Spec.SecurityContext; s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || c.SecurityContext.ReadOnlyRootFilesystem == nil {
		t.Errorf("%s may do more than it has to", d.Name)
	}
	for _, e := range c.Env {
		if strings.Contains(e.Name, "SECRET") && e.Value != "" {
			t.Errorf("%s holds the secret %s in plain", d.Name, e.Name)
		}
	}
}

// TestHelmRefuses: values that make no sense are refused by their schema.
func TestHelmRefuses(t *testing.T) {
	chart, err := loader.Load(filepath.Join("..", "helm", "causeway"))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range map[string]map[string]any{
		"an unknown key": {"stage": map[string]any{}},
		"two replicas":   {"streams": map[string]any{"replicas": 2}},
		"no nats":        {"nats": map[string]any{"url": "localhost"}},
	} {
		if _, err := chartutil.ToRenderValues(chart, values, chartutil.ReleaseOptions{Name: "sync"}, chartutil.DefaultCapabilities); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
