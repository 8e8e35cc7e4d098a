package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"go.temporal.io/sdk/client"

	"narthex/cmd/internal/process"
	"narthex/internal/config"
	"narthex/internal/dev/devstack"
	"narthex/internal/dev/localpg"
	"narthex/internal/dev/localtemporal"
	"narthex/internal/dev/searchattributes"
	"narthex/internal/registry"
	"narthex/internal/secrets"
	"narthex/internal/telemetry"
)

// flags say where the stack keeps its data and listens.
type flags struct {
	data, http, temporal, ui, postgres, codec, operations string
	throttle, cluster                                     bool
}

// allParts returns the configuration, still to be parsed, of a process that runs all parts.
func allParts() config.Process {
	return config.Process{API: &config.API{}, Codec: &config.Codec{}, Worker: &config.Worker{}}
}

// processConfig configures a process of the stack.
func processConfig(c config.Process, temporal client.Options, log *slog.Logger, spareLoopback bool) process.Config {
	return process.Config{
		Process:       c,
		Promote:       true, // a build of older sources may follow one of newer sources
		SpareLoopback: spareLoopback, Temporal: temporal, Log: log,
	}
}

// stack is a stack that is starting or running.
type stack struct {
	flags  flags
	folder *devstack.Folder
	keys   devstack.Keys
	out    io.Writer
	fail   context.CancelCauseFunc // stops the stack

	databases devstack.Databases
	variables map[string]string // of the API and the worker
	config    config.Process    // the same, parsed
	temporal  client.Options
	ui        string // URL; empty if the stack runs no UI of its own
}

func (s *stack) progress(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }

var errNotReady = errors.New("stopped before it was ready")

// runStack starts the whole stack, says when it is ready, and stops it in order when ctx or a part of
// it ends.
func runStack(ctx context.Context, f flags, out io.Writer) (err error) {
	ctx, fail := context.WithCancelCause(ctx)
	s := &stack{flags: f, out: out, fail: fail, config: allParts()}
	quiet := context.AfterFunc(ctx, func() { s.progress("Stopping.") })
	defer fail(nil)
	defer quiet()
	defer func() {
		if err != nil && errors.Is(context.Cause(ctx), context.Canceled) {
			err = errNotReady
		}
	}()

	s.folder, err = devstack.OpenFolder(f.data)
	if err != nil {
		return err
	}
	defer s.folder.Close()
	if err := checkAddresses(f); err != nil {
		return err
	}
	s.keys, err = s.folder.Keys()
	if err != nil {
		return err
	}
	stopPostgres, err := s.startPostgres(ctx)
	if err != nil {
		return err
	}
	defer stopPostgres()
	if err := s.prepareRegistry(ctx); err != nil {
		return err
	}
	stopTemporal, err := s.startTemporal(ctx)
	if err != nil {
		return err
	}
	defer stopTemporal()
	return s.runNarthex(ctx)
}

// runNarthex runs the API and the worker, and publishes where the stack is while it is ready.
func (s *stack) runNarthex(ctx context.Context) error {
	if s.ui == "" {
		s.config.CodecAddress = "" // no UI uses it
	}
	s.config.OperationsAddress = config.Address(s.flags.operations)
	s.config.CodecOrigins = []string{s.ui, strings.Replace(s.ui, "127.0.0.1", "localhost", 1)}
	logFile, err := os.OpenFile(filepath.Join(s.folder.Path, "narthex.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("the data folder %s cannot be written to: choose another with --data", s.folder.Path)
	}
	defer logFile.Close()
	defer func() { _ = s.folder.Forget() }()
	if s.flags.cluster {
		return s.runProcesses(ctx, logFile)
	}
	parts := processConfig(s.config, s.temporal, telemetry.NewLogger(logFile, config.Log{}), !s.flags.throttle)
	announced := false
	parts.Ready = func(http, operations string) {
		announced = true
		s.announce([]string{"http://" + http}, "http://"+operations)
	}
	if err := process.Run(ctx, parts); err != nil || announced {
		return err
	}
	return errNotReady
}

// runProcesses runs the APIs and workers of a cluster.
func (s *stack) runProcesses(ctx context.Context, logFile *os.File) error {
	all := maps.Clone(s.variables)
	all["CODEC_ADDRESS"] = string(s.config.CodecAddress)
	all["CODEC_ORIGINS"] = strings.Join(s.config.CodecOrigins, ",")
	all["OPERATIONS_ADDRESS"] = string(s.config.OperationsAddress)
	t := task{Variables: all, Temporal: s.temporal.HostPort, SpareLoopback: !s.flags.throttle}
	return processes{log: logFile, task: t, progress: s.progress, fail: s.fail}.run(ctx, s.announce)
}

// announce says that the stack is ready and where everything is, given the URLs of its APIs and of its operations.
func (s *stack) announce(apis []string, operations string) {
	running := devstack.Stack{
		HTTP: apis[0], APIs: apis, Operations: operations,
		Temporal: s.temporal.HostPort, Namespace: s.temporal.Namespace, UI: s.ui,
		Postgres: s.databases.AdminURL, Registry: s.databases.RegistryURL, PID: os.Getpid(),
	}
	if err := s.folder.Announce(running, environment(running, s.databases, s.keys)); err != nil {
		s.fail(err)
		return
	}
	fmt.Fprint(s.out, readyBlock(running, s.flags.data))
}

// checkAddresses finds malformed or taken addresses before anything is started.
func checkAddresses(f flags) error {
	addresses := []struct{ flag, address string }{{"--http", f.http}, {"--operations", f.operations}}
	if os.Getenv("DATABASE_URL") == "" {
		addresses = append(addresses, struct{ flag, address string }{"--postgres", f.postgres})
	}
	if os.Getenv("TEMPORAL_ADDRESS") == "" {
		addresses = append(addresses, struct{ flag, address string }{"--temporal", f.temporal},
			struct{ flag, address string }{"--ui", f.ui}, struct{ flag, address string }{"--codec", f.codec})
	}
	for _, a := range addresses {
		host, port, err := net.SplitHostPort(a.address)
		_, portErr := strconv.ParseUint(port, 10, 16)
		if err != nil || portErr != nil || host == "" {
			return fmt.Errorf("%s %s is not an address like 127.0.0.1:8080", a.flag, a.address)
		}
		listener, err := net.Listen("tcp", a.address)
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("%s %s is taken: stop what uses it, or choose another address (port 0 picks a free one)", a.flag, a.address)
		}
		if err != nil {
			return fmt.Errorf("%s %s cannot be used: choose another address", a.flag, a.address)
		}
		listener.Close()
	}
	return nil
}

// resolve picks a free port for port 0.
func resolve(address string) (config.Address, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return "", fmt.Errorf("--codec %s cannot be used: choose another address", address)
	}
	defer listener.Close()
	return config.Address(listener.Addr().String()), nil
}

// startPostgres uses the server of DATABASE_URL or starts one in the folder.
func (s *stack) startPostgres(ctx context.Context) (stop func(), err error) {
	if given := os.Getenv("DATABASE_URL"); given != "" {
		s.progress("PostgreSQL: the server of DATABASE_URL")
		s.databases, err = devstack.PrepareGiven(ctx, given)
		return func() {}, err
	}
	s.progress("PostgreSQL: starting")
	host, portText, _ := net.SplitHostPort(s.flags.postgres)
	port, _ := strconv.Atoi(portText)
	server, err := localpg.Start(ctx, localpg.Options{
		Dir: filepath.Join(s.folder.Path, "postgres"), Host: host, Port: port, Log: s.progress,
	})
	if err != nil {
		return nil, err
	}
	stop = func() {
		if err := server.Stop(); err != nil {
			s.progress("PostgreSQL did not stop cleanly: %v", err)
		}
	}
	go func() {
		<-server.Done()
		s.fail(errors.New("PostgreSQL has stopped unexpectedly: its log is in the data folder"))
	}()
	s.databases, err = devstack.PrepareOwn(ctx, server.AdminURL(), s.keys)
	if err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

// prepareRegistry configures the API and the worker, migrates the registry, and points its tenants to the address on
// which the server listens this time.
func (s *stack) prepareRegistry(ctx context.Context) error {
	s.variables = variables(s.databases, s.keys, s.flags.http)
	if err := config.ParseFrom(&s.config, s.variables); err != nil {
		return fmt.Errorf("the keys or addresses of the data folder %s are damaged: start over with another --data: %w", s.folder.Path, err)
	}
	keys := secrets.New(s.config.SealKeyset, s.config.IndexKeyset)
	if err := s.checkKeys(ctx, keys); err != nil {
		return err
	}
	if err := registry.Migrate(ctx, s.databases.RegistryURL); err != nil {
		return fmt.Errorf("the registry cannot be migrated: %w", err)
	}
	server, err := pgx.ParseConfig(s.databases.TenantServerURL)
	if err != nil {
		return errors.New("DATABASE_URL is malformed")
	}
	_, err = devstack.Relocate(ctx, s.databases.RegistryURL, keys, server.Host, int(server.Port))
	return err
}

// checkKeys refuses a registry that was written with other keys, before anything in it changes.
func (s *stack) checkKeys(ctx context.Context, keys *secrets.Keys) error {
	reg, err := registry.Open(ctx, s.databases.RegistryURL, keys)
	if err != nil {
		return err
	}
	defer reg.Close()
	err = reg.CheckKeys(ctx)
	if errors.Is(err, registry.ErrSealKeys) || errors.Is(err, registry.ErrIndexKeys) {
		return fmt.Errorf("the registry on the PostgreSQL server belongs to another Narthex, or to another data folder (%w): "+
			"choose that folder with --data, or name another server in DATABASE_URL", err)
	}
	if errors.Is(err, registry.ErrNotMigrated) {
		return nil // a new registry
	}
	return err
}

// startTemporal uses the Temporal at TEMPORAL_ADDRESS or starts one, and ensures its search attributes.
func (s *stack) startTemporal(ctx context.Context) (stop func(), err error) {
	s.config.CodecAddress, err = resolve(s.flags.codec)
	if err != nil {
		return nil, err
	}
	own, stop := "", func() {}
	if os.Getenv("TEMPORAL_ADDRESS") != "" {
		s.progress("Temporal: the server of TEMPORAL_ADDRESS")
	} else {
		server, err := s.startOwnTemporal(ctx)
		if err != nil {
			return nil, err
		}
		s.ui, own, stop = uiURL(server), server.FrontendAddress, server.Stop
	}
	s.temporal, err = temporalOptions(own)
	if err == nil {
		err = ensureSearchAttributes(ctx, s.temporal)
	}
	if err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

// startOwnTemporal starts a Temporal that keeps its data in a file or, if the stack is a cluster, on PostgreSQL.
func (s *stack) startOwnTemporal(ctx context.Context) (*localtemporal.Server, error) {
	options := localtemporal.Options{
		Dir: filepath.Join(s.folder.Path, "temporal"), FrontendAddress: s.flags.temporal, UIAddress: s.flags.ui,
		Namespace:     client.DefaultNamespace,
		CodecEndpoint: "http://" + string(s.config.CodecAddress) + "/" + string(s.config.CodecToken),
	}
	if s.flags.cluster {
		s.progress("Temporal: four services starting")
		options.Postgres = s.databases.AdminURL
	} else {
		s.progress("Temporal: starting")
	}
	server, err := localtemporal.Start(ctx, options)
	if err != nil {
		return nil, err
	}
	go func() {
		select {
		case err := <-server.Ended():
			s.fail(err)
		case <-ctx.Done():
		}
	}()
	return server, nil
}

// temporalOptions returns how to reach the Temporal at TEMPORAL_ADDRESS or, if that is not set, the
// stack's own.
func temporalOptions(own string) (client.Options, error) {
	if os.Getenv("TEMPORAL_ADDRESS") == "" {
		return client.Options{HostPort: own, Namespace: client.DefaultNamespace}, nil
	}
	return process.TemporalOptions()
}

func ensureSearchAttributes(ctx context.Context, options client.Options) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c, err := client.DialContext(ctx, options)
	if err != nil {
		return fmt.Errorf("no connection to Temporal at %s: start it, or unset TEMPORAL_ADDRESS", options.HostPort)
	}
	defer c.Close()
	return searchattributes.Ensure(ctx, c, options.Namespace)
}

// variables configure the stack's API and worker.
func variables(databases devstack.Databases, keys devstack.Keys, httpAddress string) map[string]string {
	return map[string]string{
		"REGISTRY_URL": databases.RegistryURL, "TENANT_SERVER_URL": databases.TenantServerURL,
		"SEAL_KEYSET": keys["SEAL_KEYSET"], "INDEX_KEYSET": keys["INDEX_KEYSET"],
		"TOKEN_KEY": keys["TOKEN_KEY"], "CODEC_TOKEN": keys["CODEC_TOKEN"],
		"HTTP_ADDRESS":       httpAddress,
		"DATABASE_POOL_SIZE": "8", // enough for one person; the default is for a busier server
	}
}

// environment returns the content of narthex.env, with which every narthex command reaches this stack.
func environment(running devstack.Stack, databases devstack.Databases, keys devstack.Keys) map[string]string {
	all := variables(databases, keys, "127.0.0.1:0") // the stack's own API uses its address already
	for _, variable := range os.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, "TEMPORAL_") {
			all[name] = value
		}
	}
	all["TEMPORAL_ADDRESS"], all["TEMPORAL_NAMESPACE"] = running.Temporal, running.Namespace
	return all
}

func readyBlock(running devstack.Stack, folder string) string {
	ui := running.UI
	if ui == "" {
		ui = "(that of TEMPORAL_ADDRESS)"
	}
	return fmt.Sprintf(`
Narthex is ready.
  API          %s
  Temporal UI  %s
  Temporal     %s, namespace %s
  Metrics      %s/metrics
  Data, log    %s
Sign a church up:
  curl -s %s/api/auth/register -H 'Content-Type: application/json' \
    -d '{"churchName":"Grace Chapel","email":"pat@example.org","password":"correct horse","firstName":"Pat","lastName":"Muster"}'
Ctrl-C stops everything.
`, strings.Join(running.APIs, ", "), ui, running.Temporal, running.Namespace, running.Operations, folder, running.HTTP)
}
