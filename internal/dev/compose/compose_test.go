// Package compose checks docker-compose.temporal.yml as far as possible without Docker.
package compose

import (
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"

	"narthex/internal/config"
	"narthex/internal/dev/searchattributes"
	"narthex/internal/hardening"
)

const file = "../../../docker-compose.temporal.yml"

func load(t *testing.T) *types.Project {
	t.Helper()
	keys, err := config.NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	environment := types.Mapping(keys)
	for _, name := range []string{"TEMPORAL_POSTGRES_PASSWORD", "TENANT_POSTGRES_PASSWORD", "NARTHEX_POSTGRES_PASSWORD"} {
		environment[name] = "secret"
	}
	project, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir: "../../..", ConfigFiles: []types.ConfigFile{{Filename: file}}, Environment: environment,
	})
	if err != nil {
		t.Fatalf("%s does not load: %v", file, err)
	}
	return project
}

func TestImagesArePinned(t *testing.T) {
	pinned := regexp.MustCompile(`:\d+\.\d+(\.\d+)?(-\w+)?$`)
	for _, service := range load(t).Services {
		if service.Build == nil && !pinned.MatchString(service.Image) {
			t.Errorf("%s runs %s, want a version", service.Name, service.Image)
		}
		if strings.Contains(service.Image, "auto-setup") {
			t.Errorf("%s runs %s, which is deprecated", service.Name, service.Image)
		}
	}
}

// The cluster runs the same versions that the development stack embeds.
func TestVersionsMatchGoMod(t *testing.T) {
	module, err := os.ReadFile("../../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	services := load(t).Services
	for name, require := range map[string]string{
		"temporal": "go.temporal.io/server", "temporal-schema": "go.temporal.io/server",
		"temporal-namespace": "go.temporal.io/server", "temporal-ui": "github.com/temporalio/ui-server/v2",
	} {
		_, version, _ := strings.Cut(services[name].Image, ":")
		if want := require + " v" + version + "\n"; !strings.Contains(string(module), want) {
			t.Errorf("%s runs %s, which is not go.mod's version of %s", name, services[name].Image, require)
		}
	}
}

func TestPortsAreOnlyOnLoopback(t *testing.T) {
	for _, service := range load(t).Services {
		for _, port := range service.Ports {
			if ip := net.ParseIP(port.HostIP); ip == nil || !ip.IsLoopback() {
				t.Errorf("%s publishes port %s on %q, want 127.0.0.1", service.Name, port.Published, port.HostIP)
			}
		}
	}
}

func TestDependenciesHaveHealthChecks(t *testing.T) {
	project := load(t)
	for _, service := range project.Services {
		for name, dependency := range service.DependsOn {
			other, ok := project.Services[name]
			if !ok {
				t.Errorf("%s waits for %s, which does not exist", service.Name, name)
			}
			if dependency.Condition == types.ServiceConditionHealthy && other.HealthCheck == nil {
				t.Errorf("%s waits until %s is healthy, but that has no health check", service.Name, name)
			}
		}
	}
	for _, name := range []string{"temporal", "temporal-ui", "temporal-postgres", "tenant-postgres", "api", "worker"} {
		if project.Services[name].HealthCheck == nil {
			t.Errorf("%s has no health check", name)
		}
	}
}

// PostgreSQL's image already answers on its socket while it sets the server up.
func TestPostgresIsCheckedOverTCP(t *testing.T) {
	for _, name := range []string{"temporal-postgres", "tenant-postgres"} {
		if check := strings.Join(load(t).Services[name].HealthCheck.Test, " "); !strings.Contains(check, "-h 127.0.0.1") {
			t.Errorf("%s is checked with %q, want -h 127.0.0.1", name, check)
		}
	}
}

func TestNoProcessGetsSecretsThatItDoesNotNeed(t *testing.T) {
	services := load(t).Services
	for name, foreign := range map[string][]string{
		"migrate": {"SEAL_KEYSET", "INDEX_KEYSET", "TOKEN_KEY", "TENANT_SERVER_URL", "CODEC_TOKEN"},
		"api":     {"TENANT_SERVER_URL"},
		"worker":  {"TOKEN_KEY", "CODEC_TOKEN"},
	} {
		for _, variable := range foreign {
			if _, there := services[name].Environment[variable]; there {
				t.Errorf("%s gets %s", name, variable)
			}
		}
	}
}

func TestTenantsHaveTheirOwnServer(t *testing.T) {
	services := load(t).Services
	if seeds := *services["temporal"].Environment["POSTGRES_SEEDS"]; seeds != "temporal-postgres" {
		t.Errorf("Temporal keeps its data on %s, want temporal-postgres", seeds)
	}
	if url := *services["worker"].Environment["TENANT_SERVER_URL"]; !strings.Contains(url, "@tenant-postgres:5432/") {
		t.Errorf("tenants' databases are made on %s, want tenant-postgres", config.DatabaseURL(url))
	}
}

// Each Narthex process gets an environment that its command accepts.
func TestEnvironmentsAreComplete(t *testing.T) {
	services := load(t).Services
	for name, parts := range map[string]any{
		"migrate": &struct{ config.Registry }{},
		"api":     &config.Process{API: &config.API{}, Codec: &config.Codec{}},
		"worker":  &config.Process{Worker: &config.Worker{}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := services[name].Command; !slices.Equal(got, types.ShellCommand{name}) {
				t.Errorf("%s runs %v", name, got)
			}
			for variable, value := range services[name].Environment {
				t.Setenv(variable, *value)
			}
			if err := config.Parse(parts); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSearchAttributesAreRegistered(t *testing.T) {
	script := strings.Join(load(t).Services["temporal-namespace"].Command, " ")
	for name, kind := range searchattributes.All() {
		if want := "--name " + name + " --type " + kind.String(); !strings.Contains(script, want) {
			t.Errorf("the namespace job lacks %q", want)
		}
	}
	if !strings.Contains(script, "--retention 30d") {
		t.Error("the namespace job does not keep closed workflows for 30 days")
	}
}

func TestQueuesArePolledOften(t *testing.T) {
	content := load(t).Configs["temporal-dynamic-config"].Content
	for _, queue := range []string{"transfer", "timer", "visibility"} {
		if key := "history." + queue + "ProcessorMaxPollRPS"; !strings.Contains(content, key) {
			t.Errorf("the dynamic config lacks %s", key)
		}
	}
}

// The UI's pages, in the operator's browser, ask the API's process to open payloads.
func TestUIReadsPayloads(t *testing.T) {
	services := load(t).Services
	api := services["api"].Environment
	want := "http://127.0.0.1:8234/" + *api["CODEC_TOKEN"]
	if endpoint := *services["temporal-ui"].Environment["TEMPORAL_CODEC_ENDPOINT"]; endpoint != want ||
		*api["CODEC_ADDRESS"] != "0.0.0.0:8234" {
		t.Errorf("the UI asks %s, want %s; the endpoint listens on %s, want 0.0.0.0:8234", endpoint, want, *api["CODEC_ADDRESS"])
	}
	if origins := *api["CODEC_ORIGINS"]; origins != "http://127.0.0.1:8233,http://localhost:8233" {
		t.Errorf("pages of %s may ask, want the UI's", origins)
	}
}

// Databases that tenants' roles must not reach are closed before the first such role exists.
func TestServerIsClosedToTenants(t *testing.T) {
	script := load(t).Configs["tenant-postgres-init"].Content
	for _, want := range append(hardening.Statements("narthex", "postgres", "template1"), hardening.Statistics("narthex")) {
		if !strings.Contains(script, want) {
			t.Errorf("the server's init script lacks %q", want)
		}
	}
}

// The processes start after a separate job has migrated the registry.
func TestProcessesStartAfterMigrations(t *testing.T) {
	services := load(t).Services
	for _, name := range []string{"api", "worker"} {
		if condition := services[name].DependsOn["migrate"].Condition; condition != types.ServiceConditionCompletedSuccessfully {
			t.Errorf("%s waits for migrate to be %q, want it to have completed successfully", name, condition)
		}
	}
}

// Git's history is not in the image, so the release's name is passed in. `narthex version` prints it.
func TestImageKnowsItsRelease(t *testing.T) {
	t.Setenv("BUILD_ID", "")
	dockerfile, err := os.ReadFile("../../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	last := string(dockerfile)[strings.LastIndex(string(dockerfile), "\nFROM "):]
	if !strings.Contains(last, "\nARG BUILD_ID\nENV BUILD_ID=$BUILD_ID\n") {
		t.Errorf("the image does not keep BUILD_ID:%s", last)
	}
	for _, name := range []string{"migrate", "api", "worker"} {
		if id := load(t).Services[name].Build.Args["BUILD_ID"]; id == nil || *id != "" {
			t.Errorf("%s is not built with the BUILD_ID of the environment, which is empty", name)
		}
	}
	if err := config.Parse(new(config.Release)); err != nil {
		t.Errorf("an empty BUILD_ID is refused: %v", err)
	}
}

// A worker rehearses with pg_dump, which refuses servers that are newer than itself.
func TestImageHasPostgresPrograms(t *testing.T) {
	dockerfile, err := os.ReadFile("../../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	var programs, server int
	if _, after, ok := strings.Cut(string(dockerfile), "apk add --no-cache postgresql"); ok {
		_, err = fmt.Sscanf(after, "%d-client", &programs)
	}
	if err == nil {
		_, err = fmt.Sscanf(load(t).Services["tenant-postgres"].Image, "postgres:%d", &server)
	}
	if err != nil || programs < server {
		t.Errorf("the image has the programs of PostgreSQL %d (%v), want those of %d or newer", programs, err, server)
	}
}

// Commands like `docker compose exec worker narthex signups list` find all that they need.
func TestCommandsWorkInTheContainers(t *testing.T) {
	for _, name := range []string{"api", "worker"} {
		t.Run(name, func(t *testing.T) {
			for variable, value := range load(t).Services[name].Environment {
				t.Setenv(variable, *value)
			}
			if err := config.Parse(&struct {
				config.Registry
				config.Keys
				config.Queue
			}{}); err != nil {
				t.Error(err)
			}
			if os.Getenv("TEMPORAL_ADDRESS") != "temporal:7233" {
				t.Errorf("Temporal is looked for at %q, want temporal:7233", os.Getenv("TEMPORAL_ADDRESS"))
			}
		})
	}
}

func TestTerminateIsHidden(t *testing.T) {
	environment := load(t).Services["temporal-ui"].Environment
	for _, name := range []string{"TEMPORAL_WORKFLOW_TERMINATE_DISABLED", "TEMPORAL_BATCH_ACTIONS_DISABLED"} {
		if value := environment[name]; value == nil || *value != "true" {
			t.Errorf("%s is not true", name)
		}
	}
}
