// Package config reads Narthex's configuration from environment variables. It is the only place that
// names them; .env.example documents each. The Temporal SDK's envconfig reads Temporal's own variables
// (TEMPORAL_ADDRESS, …), and OpenTelemetry's SDK reads its own (OTEL_…).
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
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	"narthex/internal/secrets"
	"narthex/internal/tokens"
)

// Registry says where the registry is.
type Registry struct {
	RegistryURL DatabaseURL `env:"REGISTRY_URL,required,notEmpty"`
}

// Keys are the keys that seal data and find it by index.
type Keys struct {
	SealKeyset  secrets.SealKeyset  `env:"SEAL_KEYSET,required,notEmpty"`
	IndexKeyset secrets.IndexKeyset `env:"INDEX_KEYSET,required,notEmpty"`
}

// Worker is what a worker needs besides the registry and the keys.
type Worker struct {
	TenantServers
	ReadyDatabases Stock `env:"DATABASE_POOL_SIZE" envDefault:"32"`
	Release
}

// TenantServers are all PostgreSQL servers that hold tenants' databases.
type TenantServers struct {
	TenantServerURL       DatabaseURL  `env:"TENANT_SERVER_URL,required,notEmpty"` // where new ones are made
	OtherTenantServerURLs DatabaseURLs `env:"OTHER_TENANT_SERVER_URLS"`
}

// Release names the program's release. Without a name, the release is named by its time and content.
type Release struct {
	BuildID BuildID `env:"BUILD_ID"`
}

// BuildID is a release's name. Later releases have names that sort after earlier ones.
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

// TenantServer is where tenants' databases are made, for programs that can do without one.
type TenantServer struct {
	TenantServerURL DatabaseURL `env:"TENANT_SERVER_URL"`
}

// API is what the API needs besides the registry and the keys.
type API struct {
	HTTPAddress   Address     `env:"HTTP_ADDRESS" envDefault:"127.0.0.1:8080"`
	SignupWait    Wait        `env:"SIGNUP_WAIT" envDefault:"10s"`
	TokenKey      tokens.Keys `env:"TOKEN_KEY,required,notEmpty"`
	TokenIssuer   Name        `env:"TOKEN_ISSUER" envDefault:"narthex"`
	TokenAudience Name        `env:"TOKEN_AUDIENCE" envDefault:"narthex-api"`

	TenantConnections Count `env:"TENANT_CONNECTIONS" envDefault:"50"`

	TrustedProxies Networks `env:"TRUSTED_PROXIES"`
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

// Codec configures the endpoint that opens sealed payloads for Temporal's UI. Without an address there is no endpoint.
type Codec struct {
	CodecAddress Address    `env:"CODEC_ADDRESS"`
	CodecToken   CodecToken `env:"CODEC_TOKEN"`
	CodecOrigins Origins    `env:"CODEC_ORIGINS"`
}

// CodecToken is the token that callers of the codec endpoint must present.
type CodecToken string

const leastCodecToken = 32 // characters

// UnmarshalText checks that it is hard to guess. Its error does not contain the token.
func (t *CodecToken) UnmarshalText(text []byte) error {
	if len(text) < leastCodecToken || url.PathEscape(string(text)) != string(text) {
		return fmt.Errorf("must be at least %d letters and digits", leastCodecToken)
	}
	*t = CodecToken(text)
	return nil
}

// Queue is the task queue that the API and the workers share.
type Queue struct {
	TaskQueue Name `env:"TASK_QUEUE" envDefault:"signups"`
}

// Operations configures the listener for operators. Without an address there is no listener.
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

// LogAuto, also the default, is text on a terminal and JSON elsewhere.
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

// Process is the configuration of a process that runs the API, the worker or both. Parse fills the parts that
// are not nil. Parts that the process does not run are nil.
type Process struct {
	Registry
	Keys
	Queue
	*API
	*Codec // next to the API
	*Worker
	Operations
	Log
}

// Address is a host and port to listen on. Port 0 means any free port.
type Address string

// UnmarshalText checks the form.
func (a *Address) UnmarshalText(text []byte) error {
	_, port, err := net.SplitHostPort(string(text))
	if err != nil {
		return errors.New("is not an address like 127.0.0.1:8080")
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return errors.New("is not an address whose port is a number from 0 to 65535")
	}
	*a = Address(text)
	return nil
}

// Wait is how long to wait for a signup.
type Wait time.Duration

const leastWait, mostWait = Wait(100 * time.Millisecond), Wait(5 * time.Minute)

// UnmarshalText checks the form and the range.
func (w *Wait) UnmarshalText(text []byte) error {
	wait, err := time.ParseDuration(string(text))
	if err != nil || Wait(wait) < leastWait || Wait(wait) > mostWait {
		return errors.New("is not a duration from 100ms to 5m, like 10s")
	}
	*w = Wait(wait)
	return nil
}

// Name is a name by which other programs know us.
type Name string

var name = regexp.MustCompile(`^[!-~]{1,200}$`)

// UnmarshalText checks the form.
func (n *Name) UnmarshalText(text []byte) error {
	if !name.Match(text) {
		return errors.New("is not 1 to 200 letters, digits and signs of ASCII without spaces")
	}
	*n = Name(text)
	return nil
}

// Networks are IP networks, separated by commas.
type Networks []netip.Prefix

// UnmarshalText checks the form.
func (n *Networks) UnmarshalText(text []byte) error {
	*n = nil
	for _, one := range listed(text) {
		network, err := netip.ParsePrefix(one)
		if err != nil {
			return errors.New("is not a list of networks like 10.0.0.0/8,192.168.1.7/32")
		}
		*n = append(*n, network)
	}
	return nil
}

// Origins are origins of web pages, separated by commas.
type Origins []string

// UnmarshalText checks the form: what a browser sends as Origin.
func (o *Origins) UnmarshalText(text []byte) error {
	*o = nil
	for _, one := range listed(text) {
		origin, err := url.Parse(one)
		if err != nil || (origin.Scheme != "http" && origin.Scheme != "https") || origin.Host == "" || origin.Scheme+"://"+origin.Host != one {
			return errors.New("is not a list of origins like https://temporal.example.org,http://localhost:8233")
		}
		*o = append(*o, one)
	}
	return nil
}

func listed(text []byte) (items []string) {
	for item := range strings.SplitSeq(string(text), ",") {
		item = strings.TrimSpace(item)
		if item != "" {
			items = append(items, item)
		}
	}
	return items
}

// Parse fills config, a pointer to a struct made of this package's parts, from the environment. Its error
// is one sentence that names every missing or malformed variable.
func Parse(config any) error { return ParseFrom(config, env.ToMap(os.Environ())) }

// ParseFrom is like Parse, but takes the variables by name.
func ParseFrom(config any, variables map[string]string) error {
	environment, unread := withFiles(variables)
	wrong := slices.Sorted(maps.Values(unread))
	err := env.ParseWithOptions(config, env.Options{Environment: environment})
	if all, ok := errors.AsType[env.AggregateError](err); ok {
		for _, one := range all.Errors {
			name, problem := inWords(one, config, environment)
			if unread[name] == "" { // once is enough
				wrong = append(wrong, strings.TrimSpace(name+" "+problem))
			}
		}
	} else if err != nil {
		wrong = append(wrong, err.Error())
	}
	if environment["CODEC_ADDRESS"] != "" && environment["CODEC_TOKEN"] == "" {
		wrong = append(wrong, "CODEC_TOKEN is not set, and CODEC_ADDRESS is")
	}
	if len(wrong) > 0 {
		return fmt.Errorf("wrong configuration: %s (see .env.example)", strings.Join(wrong, "; "))
	}
	return nil
}

// inWords names the variable at fault and says what is wrong with it. It repeats the value only of variables that
// hold no secret.
func inWords(err error, config any, environment map[string]string) (variable, problem string) {
	var missing env.VarIsNotSetError
	var empty env.EmptyVarError
	var malformed env.ParseError
	switch {
	case errors.As(err, &missing):
		return missing.Key, "is not set"
	case errors.As(err, &empty):
		return empty.Key, "is empty"
	case errors.As(err, &malformed):
		name := variableOf(reflect.TypeOf(config).Elem(), malformed.Name)
		problem := form(malformed)
		if !slices.Contains(secretVariables, name) {
			problem += fmt.Sprintf(": %.100q", environment[name])
		}
		return name, problem
	}
	return "", err.Error()
}

func form(err env.ParseError) string {
	if err.Type == reflect.TypeFor[slog.Level]() {
		return "is not one of debug, info, warn, error"
	}
	return err.Err.Error()
}

// variableOf returns the name of the environment variable that fills a field.
func variableOf(t reflect.Type, field string) string {
	for _, f := range reflect.VisibleFields(t) {
		if f.Name == field && !f.Anonymous {
			name, _, _ := strings.Cut(f.Tag.Get("env"), ",")
			return name
		}
	}
	return field
}
