// Package config reads Narthex's configuration from environment variables: the one place where they
// are named. .env.example documents each. Temporal's own (TEMPORAL_ADDRESS, …) are read by the SDK's
// envconfig, OpenTelemetry's (OTEL_…) by its SDK.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/compose-spec/compose-go/v2/dotenv"

	"narthex/internal/secrets"
	"narthex/internal/tokens"
)

// Registry says where the registry is.
type Registry struct {
	RegistryURL DatabaseURL `env:"REGISTRY_URL,required,notEmpty"`
}

// Keys are what data is sealed and found by.
type Keys struct {
	SealKeyset  secrets.SealKeyset  `env:"SEAL_KEYSET,required,notEmpty"`
	IndexKeyset secrets.IndexKeyset `env:"INDEX_KEYSET,required,notEmpty"`
}

// Worker is what a worker needs beside the registry and the keys.
type Worker struct {
	TenantServerURL       DatabaseURL   `env:"TENANT_SERVER_URL,required,notEmpty"`
	OtherTenantServerURLs []DatabaseURL `env:"OTHER_TENANT_SERVER_URLS"` // searched for orphans too
	ReadyDatabases        Stock         `env:"DATABASE_POOL_SIZE" envDefault:"32"`
	Release
}

// Release names the program's release. Without a name it is named by its time and content.
type Release struct {
	BuildID BuildID `env:"BUILD_ID"`
}

// BuildID is a release's name. A later release has one that is greater as text.
type BuildID string

var buildID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}$`)

// UnmarshalText checks the form.
func (b *BuildID) UnmarshalText(text []byte) error {
	if !buildID.Match(text) {
		return errors.New("is not a name of at most 100 letters, digits and . _ + - that begins with a letter or digit")
	}
	*b = BuildID(text)
	return nil
}

// TenantServer is where tenants' databases are made, for who can do without.
type TenantServer struct {
	TenantServerURL DatabaseURL `env:"TENANT_SERVER_URL"`
}

// API is what the API needs beside the registry and the keys.
type API struct {
	HTTPAddress   Address       `env:"HTTP_ADDRESS" envDefault:"127.0.0.1:8080"`
	SignupWait    time.Duration `env:"SIGNUP_WAIT" envDefault:"10s"`
	TokenKey      tokens.Keys   `env:"TOKEN_KEY,required,notEmpty"`
	TokenIssuer   string        `env:"TOKEN_ISSUER" envDefault:"narthex"`
	TokenAudience string        `env:"TOKEN_AUDIENCE" envDefault:"narthex-api"`

	TenantConnections Count `env:"TENANT_CONNECTIONS" envDefault:"50"`

	TrustedProxies []netip.Prefix `env:"TRUSTED_PROXIES"`
}

// Stock is a number of databases, 0 for none.
type Stock int

// UnmarshalText checks that it is one.
func (s *Stock) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 10, 10)
	if err != nil {
		return errors.New("is not a number from 0 to 1023")
	}
	*s = Stock(n)
	return nil
}

// Count is a number of things, at least one.
type Count int

// UnmarshalText checks that it is.
func (c *Count) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 10, 16)
	if err != nil || n == 0 {
		return errors.New("is not a number from 1 to 65535")
	}
	*c = Count(n)
	return nil
}

// Codec is where Temporal's UI has sealed payloads opened. Without an address there is no such endpoint.
type Codec struct {
	CodecAddress Address    `env:"CODEC_ADDRESS"`
	CodecToken   CodecToken `env:"CODEC_TOKEN"`
	CodecOrigins []string   `env:"CODEC_ORIGINS"`
}

// CodecToken is what a caller of the codec endpoint has to show.
type CodecToken string

const leastCodecToken = 32 // characters

// UnmarshalText checks that nobody guesses it. Its error does not hold it.
func (t *CodecToken) UnmarshalText(text []byte) error {
	if len(text) < leastCodecToken || url.PathEscape(string(text)) != string(text) {
		return fmt.Errorf("is not a text of at least %d letters and digits", leastCodecToken)
	}
	*t = CodecToken(text)
	return nil
}

// Queue is the task queue on which the API and the workers meet.
type Queue struct {
	TaskQueue string `env:"TASK_QUEUE" envDefault:"signups"`
}

// Operations is where operators see a process from outside. Without an address there is no such listener.
type Operations struct {
	OperationsAddress Address `env:"OPERATIONS_ADDRESS"`
}

// Log is how the program logs.
type Log struct {
	LogLevel  slog.Level `env:"LOG_LEVEL" envDefault:"info"`
	LogFormat LogFormat  `env:"LOG_FORMAT" envDefault:"auto"`
}

// LogFormat is what log lines look like.
type LogFormat string

// LogAuto, also without a name, is text on a terminal and JSON elsewhere.
const (
	LogAuto LogFormat = "auto"
	LogText LogFormat = "text"
	LogJSON LogFormat = "json"
)

// UnmarshalText checks that there is such a format.
func (f *LogFormat) UnmarshalText(text []byte) error {
	switch *f = LogFormat(text); *f {
	case LogAuto, LogText, LogJSON:
		return nil
	}
	return errors.New("is not one of auto, text, json")
}

// Process is the configuration of a process that runs the API, the worker or both. Parse fills those parts that
// are not nil: what the process does not run has none.
type Process struct {
	Registry
	Keys
	Queue
	*API
	*Codec // beside the API
	*Worker
	Operations
	Log
}

// DatabaseURL is a postgres:// URL. It prints without its password.
type DatabaseURL string

// UnmarshalText checks the form. Its error does not repeat the URL, which may hold a password.
func (u *DatabaseURL) UnmarshalText(text []byte) error {
	parsed, err := url.Parse(string(text))
	if err != nil || (parsed.Scheme != "postgres" && parsed.Scheme != "postgresql") || parsed.Host == "" {
		return errors.New("is not a URL like postgres://user:password@host:5432/database")
	}
	*u = DatabaseURL(text)
	return nil
}

// String returns the URL without its password.
func (u DatabaseURL) String() string {
	parsed, err := url.Parse(string(u))
	if err != nil {
		return "postgres://…"
	}
	return parsed.Redacted()
}

// Address is a host and port to listen on.
type Address string

// UnmarshalText checks the form.
func (a *Address) UnmarshalText(text []byte) error {
	if _, _, err := net.SplitHostPort(string(text)); err != nil {
		return errors.New("is not an address like 127.0.0.1:8080")
	}
	*a = Address(text)
	return nil
}

// Secrets may be given as files: for X, X_FILE names one.
var secretVariables = []string{"REGISTRY_URL", "TENANT_SERVER_URL", "OTHER_TENANT_SERVER_URLS", "SEAL_KEYSET", "INDEX_KEYSET", "TOKEN_KEY", "CODEC_TOKEN"}

// LoadFile adds the variables in a file of NAME=value lines to the process's environment. They win
// over variables that are set already: who names a file means it.
func LoadFile(path string) error {
	values, err := dotenv.Read(path)
	var missing *os.PathError
	if errors.As(err, &missing) {
		return fmt.Errorf("the environment file %s cannot be read", path)
	}
	if err != nil {
		return fmt.Errorf("the environment file %s is malformed: it takes lines of NAME=value", path)
	}
	for name, value := range values {
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("the environment file %s sets a variable of the malformed name %q", path, name)
		}
	}
	return nil
}

// Parse fills config, a pointer to a struct of this package's parts, from the environment. Its error
// is one sentence that names every variable that is missing or malformed.
func Parse(config any) error { return ParseFrom(config, env.ToMap(os.Environ())) }

// ParseFrom does as Parse does, from variables by name.
func ParseFrom(config any, variables map[string]string) error {
	environment, wrong := withFiles(variables)
	err := env.ParseWithOptions(config, env.Options{Environment: environment})
	var all env.AggregateError
	if errors.As(err, &all) {
		for _, one := range all.Errors {
			wrong = append(wrong, inWords(one, config))
		}
	} else if err != nil {
		wrong = append(wrong, err.Error())
	}
	if environment["CODEC_ADDRESS"] != "" && environment["CODEC_TOKEN"] == "" {
		wrong = append(wrong, "CODEC_TOKEN is not set, and CODEC_ADDRESS is")
	}
	if len(wrong) > 0 {
		return fmt.Errorf("the environment is not complete: %s (see .env.example)", strings.Join(wrong, "; "))
	}
	return nil
}

// Secrets returns the environment's variables, with those that are given as files read. Its error is one
// sentence.
func Secrets() (map[string]string, error) {
	environment, wrong := withFiles(env.ToMap(os.Environ()))
	if len(wrong) > 0 {
		return nil, errors.New(strings.Join(wrong, "; "))
	}
	return environment, nil
}

// withFiles reads the secrets that are given as files, and says what is wrong with that.
func withFiles(variables map[string]string) (environment map[string]string, wrong []string) {
	environment = maps.Clone(variables)
	for _, name := range secretVariables {
		file := environment[name+"_FILE"]
		if file == "" || environment[name] != "" {
			continue
		}
		content, err := os.ReadFile(file)
		if err != nil {
			wrong = append(wrong, name+"_FILE names a file that cannot be read")
			environment[name] = "" // said once is enough
		}
		environment[name] = strings.TrimSpace(string(content))
	}
	return environment, wrong
}

// inWords names the variable at fault, and never its value, which may be a secret.
func inWords(err error, config any) string {
	var missing env.VarIsNotSetError
	var empty env.EmptyVarError
	var malformed env.ParseError
	switch {
	case errors.As(err, &missing):
		return missing.Key + " is not set"
	case errors.As(err, &empty):
		return empty.Key + " is empty"
	case errors.As(err, &malformed):
		return variable(reflect.TypeOf(config).Elem(), malformed.Name) + " " + form(malformed)
	}
	return err.Error()
}

func form(err env.ParseError) string {
	switch err.Type {
	case reflect.TypeFor[time.Duration]():
		return "is not a duration like 10s"
	case reflect.TypeFor[slog.Level]():
		return "is not one of debug, info, warn, error"
	}
	return err.Err.Error()
}

// variable returns the name of the environment variable that fills a field.
func variable(t reflect.Type, field string) string {
	for _, f := range reflect.VisibleFields(t) {
		if f.Name == field && !f.Anonymous {
			name, _, _ := strings.Cut(f.Tag.Get("env"), ",")
			return name
		}
	}
	return field
}
