package config_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"narthex/internal/config"
)

type all struct {
	config.Registry
	config.Keys
	config.Queue
	config.API
	config.Codec
	config.Worker
	config.Operations
	config.Log
}

// names are the variables that the program reads.
var names = func() (names []string) {
	for _, field := range reflect.VisibleFields(reflect.TypeFor[all]()) {
		if name, _, _ := strings.Cut(field.Tag.Get("env"), ","); name != "" {
			names = append(names, name)
		}
	}
	return names
}()

// set gives the process just these of Narthex's variables.
func set(t *testing.T, values map[string]string) {
	t.Helper()
	for _, name := range names {
		for _, variable := range []string{name, name + "_FILE"} {
			t.Setenv(variable, "") // so that it is restored
			os.Unsetenv(variable)
		}
	}
	for name, value := range values {
		t.Setenv(name, value)
	}
}

func complete(t *testing.T) map[string]string {
	t.Helper()
	keys, err := config.NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"REGISTRY_URL": "postgres://n:5ecret@db/registry", "TENANT_SERVER_URL": "postgres://n:5ecret@db/postgres",
		"SEAL_KEYSET": keys["SEAL_KEYSET"], "INDEX_KEYSET": keys["INDEX_KEYSET"], "TOKEN_KEY": keys["TOKEN_KEY"],
	}
}

func TestDefaults(t *testing.T) {
	set(t, complete(t))
	var c all
	if err := config.Parse(&c); err != nil {
		t.Fatal(err)
	}
	if c.HTTPAddress != "127.0.0.1:8080" || c.SignupWait != 10*time.Second || c.TaskQueue != "signups" ||
		c.TokenIssuer != "narthex" || c.ReadyDatabases != 32 || c.TokenAudience != "narthex-api" || c.LogLevel != slog.LevelInfo {
		t.Errorf("the defaults are %+v", c)
	}
	if got := c.RegistryURL.String(); strings.Contains(got, "5ecret") {
		t.Errorf("the registry's URL prints as %s, want it without the password", got)
	}
}

func TestEverythingWrongIsNamedAtOnce(t *testing.T) {
	set(t, map[string]string{
		"REGISTRY_URL": "mysql://n:5ecret@db/registry", "INDEX_KEYSET": "", "SIGNUP_WAIT": "soon", "HTTP_ADDRESS": "8080",
		"LOG_LEVEL": "loud", "DATABASE_POOL_SIZE": "-1", "TOKEN_KEY_FILE": "/nowhere/token",
	})
	var c all
	err := config.Parse(&c)
	if err == nil {
		t.Fatal("it was taken")
	}
	for _, want := range []string{
		"REGISTRY_URL is not a URL like postgres://", "TENANT_SERVER_URL is not set", "SEAL_KEYSET is not set", "INDEX_KEYSET is empty",
		"SIGNUP_WAIT is not a duration", "HTTP_ADDRESS is not an address", "LOG_LEVEL is not one of debug, info, warn, error",
		"TOKEN_KEY_FILE names a file that cannot be read", "DATABASE_POOL_SIZE is not a number from 0 to 1023", ".env.example",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "5ecret") || strings.Contains(err.Error(), "\n") {
		t.Errorf("the error holds a secret or more than one line:\n%v", err)
	}
}

func TestSecretsFromFiles(t *testing.T) {
	values := complete(t)
	key := values["TOKEN_KEY"]
	delete(values, "TOKEN_KEY")
	values["TOKEN_KEY_FILE"] = filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(values["TOKEN_KEY_FILE"], []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	set(t, values)
	var c all
	if err := config.Parse(&c); err != nil {
		t.Errorf("the key in a file is not taken: %v", err)
	}
}

func TestLoadFile(t *testing.T) {
	set(t, complete(t))
	path := filepath.Join(t.TempDir(), "narthex.env")
	if err := os.WriteFile(path, []byte("# a comment\nTASK_QUEUE='other'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TASK_QUEUE", "set already")
	var c all
	if err := config.LoadFile(path); err != nil {
		t.Fatal(err)
	}
	if err := config.Parse(&c); err != nil || c.TaskQueue != "other" {
		t.Errorf("TASK_QUEUE is %q (%v), want the file's", c.TaskQueue, err)
	}
	if err := os.WriteFile(path, []byte("TOKEN_KEY='5ecret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := config.LoadFile(path); err == nil || !strings.Contains(err.Error(), path+" is malformed") || strings.Contains(err.Error(), "5ecret") {
		t.Errorf("a malformed file gets %v", err)
	}
	if err := config.LoadFile(path + ".missing"); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("a missing file gets %v", err)
	}
}

// .env.example documents every variable that is read, and names no other.
func TestEnvExampleIsComplete(t *testing.T) {
	content, err := os.ReadFile("../../.env.example")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{"TEMPORAL_ADDRESS": false, "TEMPORAL_NAMESPACE": false, "OTEL_EXPORTER_OTLP_ENDPOINT": false}
	for _, name := range names {
		documented[name] = false
	}
	for line := range strings.Lines(string(content)) {
		name, _, found := strings.Cut(line, "=")
		if !found || strings.HasPrefix(line, "#") {
			continue
		}
		if _, known := documented[name]; !known {
			t.Errorf(".env.example names %s, which nothing reads", name)
		}
		documented[name] = true
	}
	for name, there := range documented {
		if !there {
			t.Errorf(".env.example lacks %s", name)
		}
	}
	set(t, nil)
	if err := config.LoadFile("../../.env.example"); err != nil {
		t.Errorf("the program cannot read it: %v", err)
	}
}
