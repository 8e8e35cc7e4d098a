package config_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

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

// set sets these of Narthex's variables, and no others.
func set(t *testing.T, values map[string]string) {
	t.Helper()
	for _, name := range names {
		for _, variable := range []string{name, name + "_FILE"} {
			t.Setenv(variable, "") // so that the old value is restored
			if err := os.Unsetenv(variable); err != nil {
				t.Fatal(err)
			}
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
	if c.HTTPAddress != "127.0.0.1:8080" || c.SignupWait != config.Wait(10*time.Second) || c.TaskQueue != "signups" ||
		c.TokenIssuer != "narthex" || c.ReadyDatabases != 32 || c.TokenAudience != "narthex-api" || c.LogLevel != slog.LevelInfo {
		t.Errorf("the defaults are %+v", c)
	}
	if got := c.RegistryURL.String(); strings.Contains(got, "5ecret") {
		t.Errorf("the registry's URL prints as %s, want it without the password", got)
	}
}

func TestAllWrongSettingsAreNamedAtOnce(t *testing.T) {
	set(t, map[string]string{
		"REGISTRY_URL": "mysql://n:5ecret@db/registry", "INDEX_KEYSET": "", "SIGNUP_WAIT": "soon", "HTTP_ADDRESS": "8080",
		"LOG_LEVEL": "loud", "DATABASE_POOL_SIZE": "-1", "TOKEN_KEY_FILE": "/nowhere/token",
	})
	var c all
	err := config.Parse(&c)
	if err == nil {
		t.Fatal("it was accepted")
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
		t.Errorf("the key in a file is not used: %v", err)
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
	if err := config.LoadFile(path, warnNothing(t)); err != nil {
		t.Fatal(err)
	}
	if err := config.Parse(&c); err != nil || c.TaskQueue != "other" {
		t.Errorf("TASK_QUEUE is %q (%v), want the file's", c.TaskQueue, err)
	}
	if err := os.WriteFile(path, []byte("TOKEN_KEY='5ecret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := config.LoadFile(path, warnNothing(t))
	if err == nil || !strings.Contains(err.Error(), path+" is malformed") || strings.Contains(err.Error(), "5ecret") {
		t.Errorf("a malformed file gets %v", err)
	}
	if err := config.LoadFile(path+".missing", warnNothing(t)); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("a missing file gets %v", err)
	}
}

func warnNothing(t *testing.T) func(string) {
	return func(warning string) { t.Errorf("a warning: %s", warning) }
}

func TestADollarInTheEnvironmentFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "narthex.env")
	const name = "CODEC_TOKEN"
	for line, want := range map[string]struct {
		value, warning, err string
	}{
		`"pa$word"`: {"pa", name, ""}, `pa$word`: {"pa", name, ""}, `"pa${word}"`: {"pa", name, ""},
		`'pa$word'`: {"pa$word", "", ""}, `"pa\$word"`: {"pa$word", "", ""},
		`"pa$$word"`: {"pa$word", "", ""}, `'pa$$word'`: {"pa$$word", "", ""},
		`"pa${word"`: {"", "", "single quotes"},
	} {
		set(t, nil)
		t.Setenv(name, "")
		write(t, path, "\ufeff"+name+"="+line+"\n")
		var warnings []string
		err := config.LoadFile(path, func(warning string) { warnings = append(warnings, warning) })
		switch got := strings.Join(warnings, " "); {
		case want.err != "":
			if err == nil || !strings.Contains(err.Error(), want.err) {
				t.Errorf("%s: error %v, want one with %q", line, err, want.err)
			}
		case err != nil || os.Getenv(name) != want.value:
			t.Errorf("%s is read as %q (%v), want %q", line, os.Getenv(name), err, want.value)
		case want.warning == "" && got != "", !strings.Contains(got, want.warning), want.warning != "" && !strings.Contains(got, "single quotes"):
			t.Errorf("%s: the warning is %q, want %q and single quotes in it", line, got, want.warning)
		}
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestMalformedSecretFilesAreExplained(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	for name, c := range map[string]struct{ content, want string }{
		"empty":          {" \n", "TOKEN_KEY_FILE names a file that is empty"},
		"BOM":            {"\ufeff5ecret", "byte order mark"},
		"UTF-16":         {"\xff\xfe5\x00", "is not UTF-8"},
		"double quotes":  {"\"5ecret\"\n", "has quotes around the value"},
		"single quotes":  {"'5ecret'", "has quotes around the value"},
		"not the secret": {"5ecret", "TOKEN_KEY is not"},
	} {
		values := complete(t)
		delete(values, "TOKEN_KEY")
		values["TOKEN_KEY_FILE"] = path
		write(t, path, c.content)
		set(t, values)
		wantRefusal(t, name, c.want)
	}
	values := complete(t)
	values["TOKEN_KEY_FILE"] = path
	set(t, values)
	wantRefusal(t, "both", "TOKEN_KEY and TOKEN_KEY_FILE are both set")
}

// wantRefusal parses the settings, and expects one complaint, without any secret.
func wantRefusal(t *testing.T, name, want string) {
	t.Helper()
	var c all
	err := config.Parse(&c)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: the error is %v, want one that says %q", name, err, want)
	} else if strings.Contains(err.Error(), "5ecret") || strings.Contains(err.Error(), ";") {
		t.Errorf("%s: the error holds a secret, or more than one complaint: %v", name, err)
	}
}

func TestRanges(t *testing.T) {
	for variable, values := range map[string]map[string]string{
		"SIGNUP_WAIT": {
			"0": "from 100ms to 5m", "-1s": "from 100ms to 5m", "99ms": "from 100ms to 5m", "5m1s": "from 100ms to 5m", "10": "from 100ms to 5m",
			"100ms": "", "5m": "",
		},
		"HTTP_ADDRESS": {
			"8080": "127.0.0.1:8080", "[::1": "127.0.0.1:8080", ":65536": "0 to 65535", ":http": "0 to 65535",
			"[::1]:8080": "", ":0": "",
		},
		"OPERATIONS_ADDRESS": {":-1": "0 to 65535", "localhost:9090": ""},
		"TENANT_CONNECTIONS": {"0": "from 1 to 65535", "-1": "from 1 to 65535", "65536": "from 1 to 65535", "1": ""},
		"DATABASE_POOL_SIZE": {"1024": "from 0 to 1023", "-1": "from 0 to 1023", "0": ""},
		"TASK_QUEUE":         {"a queue": "without spaces", strings.Repeat("q", 201): "1 to 200", "signups-2": ""},
		"TOKEN_ISSUER":       {"n\u00e4rthex": "ASCII", "https://id.example.org/": ""},
		"TOKEN_AUDIENCE":     {"a b": "without spaces", "api": ""},
		"TRUSTED_PROXIES":    {"10.0.0.1": "networks like", "10.0.0.0/33": "networks like", "10.0.0.0/8, 192.168.0.0/16": ""},
		"CODEC_ORIGINS": {
			"localhost:8233": "origins like", "https://ui.example.org/": "origins like", "*": "origins like",
			"https://ui.example.org, http://localhost:8233": "",
		},
		"BUILD_ID":      {"a b": "at most 100", "2026-12-01": ""},
		"LOG_LEVEL":     {"loud": "debug, info, warn, error", "warn": ""},
		"LOG_FORMAT":    {"xml": "auto, text, json", "text": "", "json": "", "auto": ""},
		"CODEC_ADDRESS": {"8081": "127.0.0.1:8080", "[::1": "127.0.0.1:8080", ":65536": "0 to 65535", "127.0.0.1:8081": ""},
	} {
		for value, want := range values {
			environment := complete(t)
			environment["CODEC_TOKEN"] = strings.Repeat("5", 32) // with CODEC_ADDRESS, it is required
			environment[variable] = value
			set(t, environment)
			if want != "" {
				wantRefusal(t, variable+"="+value, want)
				wantRefusal(t, variable+"="+value, variable+" is not ")
				wantRefusal(t, variable+"="+value, value[:min(len(value), 5)]) // the message says what it found
				continue
			}
			var c all
			if err := config.Parse(&c); err != nil {
				t.Errorf("%s=%s is refused: %v", variable, value, err)
			}
		}
	}
}

func TestTheCodecsToken(t *testing.T) {
	for token, want := range map[string]string{
		"":                            "CODEC_TOKEN is not set, and CODEC_ADDRESS is",
		strings.Repeat("5", 31):       "at least 32 letters and digits",
		strings.Repeat("5", 31) + " ": "at least 32 letters and digits",
		strings.Repeat("5", 32):       "",
	} {
		environment := complete(t)
		environment["CODEC_ADDRESS"] = "127.0.0.1:0"
		if token != "" {
			environment["CODEC_TOKEN"] = token
		}
		set(t, environment)
		var c all
		if err := config.Parse(&c); want == "" && err != nil {
			t.Errorf("the token %q is refused: %v", token, err)
		} else if want != "" {
			wantRefusal(t, "the token "+token, want)
		}
	}
}

func TestDatabaseURLs(t *testing.T) {
	for given, want := range map[string]string{ // a host, or what the error says
		"postgres://n:5ecret@db/registry":                                     "db:5432",
		"postgresql://n:5ecret@[::1]:6432/registry?sslmode=disable":           "::1:6432",
		"postgres://n:5%40cret@db/registry":                                   "db:5432",
		"postgres://n:5@cret@db/registry":                                     "db:5432",
		"postgres:///registry?host=/run/postgresql":                           "/run/postgresql:5432",
		"postgres://n:5ecret@/registry?host=/run/postgresql&port=6432":        "/run/postgresql:6432",
		"postgres://n:5ecret@%2Frun%2Fpostgresql/registry":                    "/run/postgresql:5432",
		"postgres://n:5@cret@%2frun%2fpg:6432/registry?application_name=n":    "/run/pg:6432",
		"postgres://%2Frun%2Fpostgresql":                                      "/run/postgresql:5432",
		"mysql://n:5ecret@db/registry":                                        "is not a URL like postgres://",
		"host=db password=5ecret":                                             "is not a URL like postgres://",
		"postgres:///registry":                                                "is not a URL like postgres://",
		"postgres://n:5ecret#x@db/registry":                                   "percent-encode",
		"postgres://n:5ecret%@db/registry":                                    "percent-encode",
		"postgres://n:5ecret/x@db/registry":                                   "percent-encode",
		"postgres://n:12/5ecret@db/registry":                                  "percent-encode",
		"postgres://n:12?5ecret@db/registry":                                  "percent-encode",
		"postgres://n:12#5ecret@db/registry":                                  "percent-encode",
		"postgres://n:5ecret[x@db/registry":                                   "percent-encode",
		"postgres://n:5ecret x@db/registry":                                   "percent-encode",
		"postgres://db/registry?user=n&password=5ecret":                       "after the ?",
		"postgres://n:5ecret@db/registry?sslmode=perhaps":                     "sslmode",
		"postgres://n:5ecret@db:70000/registry":                               "port",
		"postgres://n:5ecret@db/registry?sslrootcert=/nowhere&sslmode=prefer": "/nowhere",
	} {
		var u config.DatabaseURL
		err := u.UnmarshalText([]byte(given))
		if err != nil {
			if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "cret") {
				t.Errorf("%s: the error is %v, want one that says %q and no password", given, err, want)
			}
			continue
		}
		parsed, err := pgx.ParseConfig(string(u))
		if err != nil {
			t.Errorf("%s becomes %s, which pgx does not accept: %v", given, u, err)
		} else if got := fmt.Sprintf("%s:%d", parsed.Host, parsed.Port); got != want {
			t.Errorf("%s is at %s, want %s", given, got, want)
		}
		if strings.Contains(given, "@cret") && parsed.Password != "5@cret" {
			t.Errorf("%s has the password %s", given, parsed.Password)
		}
	}
}

func TestListsOfDatabaseURLs(t *testing.T) {
	for given, want := range map[string]string{ // hosts, or what the error says
		"postgres://n:5ecret@a/postgres":                                                      "a:5432",
		"postgres://n:5ecret@a/postgres,postgresql://n:5ecret@b/postgres":                     "a:5432 b:5432",
		"postgres://n:5ecret@a/postgres, postgres://n:5ecret@b/postgres,":                     "a:5432 b:5432",
		",postgres://n:5ecret@a/postgres ,\n, postgres://n:5ecret@b/postgres":                 "a:5432 b:5432",
		"postgres://n:5,cret@a/postgres,postgres://n:5ecret@b/postgres":                       "a:5432 b:5432",
		"postgres://n:5ecret@a:1,b:2/postgres?sslmode=disable,postgres://n:5ecret@c/postgres": "a:1 c:5432",
		"postgres://n:5ecret@a/postgres,mysql://n:5ecret@b/postgres":                          "percent-encode",
		"mysql://n:5ecret@b/postgres,postgres://n:5ecret@a/postgres":                          "is not a URL like postgres://",
		"postgres://n:5ecret@a/postgres,postgres://n:5#cret@b/postgres":                       "percent-encode",
		"postgres://n:5ecret@a/postgres, postgres://n:5ecret@b/postgres?sslmode=perhaps":      "sslmode",
	} {
		environment := complete(t)
		environment["OTHER_TENANT_SERVER_URLS"] = given
		var c config.Worker
		err := config.ParseFrom(&c, environment)
		if err != nil {
			if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "cret") {
				t.Errorf("%q: the error is %v, want one that says %q and no password", given, err, want)
			}
			continue
		}
		var hosts []string
		for _, u := range c.OtherTenantServerURLs {
			parsed, err := pgx.ParseConfig(string(u))
			if err != nil {
				t.Fatalf("%q: pgx does not take %s: %v", given, u, err)
			}
			hosts = append(hosts, fmt.Sprintf("%s:%d", parsed.Host, parsed.Port))
		}
		if got := strings.Join(hosts, " "); got != want {
			t.Errorf("%q is read as the servers %q, want %q", given, got, want)
		}
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
	if err := config.LoadFile("../../.env.example", warnNothing(t)); err != nil {
		t.Errorf("the program cannot read it: %v", err)
	}
}
