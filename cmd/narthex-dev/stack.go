package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
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
	"narthex/internal/registry"
	"narthex/internal/searchattributes"
	"narthex/internal/secrets"
	"narthex/internal/telemetry"
)

// flags are where the stack keeps its data and listens.
type flags struct {
	data, http, temporal, ui, postgres, codec, operations string
	throttle, cluster                                     bool
}

// allParts is the configuration of a process that runs all parts, to be parsed.
func allParts() config.Process {
	return config.Process{API: &config.API{}, Codec: &config.Codec{}, Worker: &config.Worker{}}
}

// processConfig configures a process of the stack.
func processConfig(c config.Process, temporal client.Options, log *slog.Logger, spareLoopback bool) process.Config {
	return process.Config{
		Process:       c,
		Promote:       true, // a build of older sources may follow one of newer
		SpareLoopback: spareLoopback, Temporal: temporal, Log: log,
	}
}

var errNotReady = errors.New("stopped before it was ready")

// runStack starts the whole stack, says when it is ready, and stops it in order when ctx ends or a
// part of it does.
func runStack(ctx context.Context, f flags, out io.Writer) (err error) {
	ctx, fail := context.WithCancelCause(ctx)
	progress := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	quiet := context.AfterFunc(ctx, func() { progress("Stopping.") })
	defer fail(nil)
	defer quiet()
	defer func() {
		if err != nil && errors.Is(context.Cause(ctx), context.Canceled) {
			err = errNotReady
		}
	}()

	folder, err := devstack.OpenFolder(f.data)
	if err != nil {
		return err
	}
	defer folder.Close()
	if err := checkAddresses(f); err != nil {
		return err
	}
	keys, err := folder.Keys()
	if err != nil {
		return err
	}
	databases, stopPostgres, err := startPostgres(ctx, f, folder, keys, progress, fail)
	if err != nil {
		return err
	}
	defer stopPostgres()
	c := allParts()
	all := variables(databases, keys, f.http)
	if err := config.ParseFrom(&c, all); err != nil {
		return fmt.Errorf("the keys or addresses of the data folder %s are damaged: begin anew with another --data: %w", folder.Path, err)
	}
	if err := prepareRegistry(ctx, databases, secrets.New(c.SealKeyset, c.IndexKeyset)); err != nil {
		return err
	}
	if c.CodecAddress, err = resolve(f.codec); err != nil {
		return err
	}
	temporal, ui, stopTemporal, err := startTemporal(ctx, f, folder, databases.AdminURL, "http://"+string(c.CodecAddress)+"/"+string(c.CodecToken), progress, fail)
	if err != nil {
		return err
	}
	defer stopTemporal()
	if ui == "" {
		c.CodecAddress = "" // nobody's UI knows of it
	}
	c.OperationsAddress = config.Address(f.operations)
	c.CodecOrigins = []string{ui, strings.Replace(ui, "127.0.0.1", "localhost", 1)}

	logFile, err := os.OpenFile(filepath.Join(folder.Path, "narthex.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("the data folder %s cannot be written to: choose another with --data", folder.Path)
	}
	defer logFile.Close()
	defer folder.Forget()
	ready := func(apis []string, operations string) {
		running := devstack.Stack{HTTP: apis[0], APIs: apis, Operations: operations, Temporal: temporal.HostPort, Namespace: temporal.Namespace, UI: ui,
			Postgres: databases.AdminURL, Registry: databases.RegistryURL, PID: os.Getpid()}
		if err := folder.Announce(running, environment(running, databases, keys)); err != nil {
			fail(err)
			return
		}
		fmt.Fprint(out, readyBlock(running, f.data))
	}
	if f.cluster {
		all["CODEC_ADDRESS"], all["CODEC_ORIGINS"] = string(c.CodecAddress), strings.Join(c.CodecOrigins, ",")
		all["OPERATIONS_ADDRESS"] = string(c.OperationsAddress)
		t := task{Variables: all, Temporal: temporal.HostPort, SpareLoopback: !f.throttle}
		return processes{log: logFile, task: t, progress: progress, fail: fail}.run(ctx, ready)
	}
	parts := processConfig(c, temporal, telemetry.NewLogger(logFile, config.Log{}), !f.throttle)
	announced := false
	parts.Ready = func(http, operations string) {
		announced = true
		ready([]string{"http://" + http}, "http://"+operations)
	}
	if err := process.Run(ctx, parts); err != nil || announced {
		return err
	}
	return errNotReady
}

// checkAddresses finds addresses that are malformed or taken before anything has been started.
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
		if _, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil || host == "" {
			return fmt.Errorf("%s %s is not an address like 127.0.0.1:8080", a.flag, a.address)
		}
		listener, err := net.Listen("tcp", a.address)
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("%s %s is taken: stop what uses it, or choose another address (port 0 picks a free one)", a.flag, a.address)
		}
		if err != nil {
			return fmt.Errorf("%s %s cannot be listened on: choose another address", a.flag, a.address)
		}
		listener.Close()
	}
	return nil
}

// resolve picks a free port for port 0.
func resolve(address string) (config.Address, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return "", fmt.Errorf("--codec %s cannot be listened on: choose another address", address)
	}
	defer listener.Close()
	return config.Address(listener.Addr().String()), nil
}

// startPostgres uses the server of DATABASE_URL or starts one in the folder.
func startPostgres(ctx context.Context, f flags, folder *devstack.Folder, keys devstack.Keys, progress func(string, ...any), fail context.CancelCauseFunc) (devstack.Databases, func(), error) {
	if given := os.Getenv("DATABASE_URL"); given != "" {
		progress("PostgreSQL: the server of DATABASE_URL")
		databases, err := devstack.PrepareGiven(ctx, given)
		return databases, func() {}, err
	}
	progress("PostgreSQL: starting")
	host, portText, _ := net.SplitHostPort(f.postgres)
	port, _ := strconv.Atoi(portText)
	server, err := localpg.Start(ctx, localpg.Options{Dir: filepath.Join(folder.Path, "postgres"), Host: host, Port: port, Log: progress})
	if err != nil {
		return devstack.Databases{}, nil, err
	}
	stop := func() {
		if err := server.Stop(); err != nil {
			progress("PostgreSQL did not stop cleanly: %v", err)
		}
	}
	go func() {
		<-server.Done()
		fail(errors.New("PostgreSQL has ended by itself: its log is in the data folder"))
	}()
	databases, err := devstack.PrepareOwn(ctx, server.AdminURL(), keys)
	if err != nil {
		stop()
		return devstack.Databases{}, nil, err
	}
	return databases, stop, nil
}

// prepareRegistry migrates the registry, and points its tenants to where the server listens this time.
func prepareRegistry(ctx context.Context, databases devstack.Databases, keys *secrets.Keys) error {
	if err := registry.Migrate(ctx, databases.RegistryURL); err != nil {
		return fmt.Errorf("the registry cannot be migrated: %w", err)
	}
	server, err := pgx.ParseConfig(databases.TenantServerURL)
	if err != nil {
		return errors.New("DATABASE_URL is malformed")
	}
	_, err = devstack.Relocate(ctx, databases.RegistryURL, keys, server.Host, int(server.Port))
	return err
}

// startTemporal uses the Temporal of TEMPORAL_ADDRESS or starts one, and sees to its search attributes.
func startTemporal(ctx context.Context, f flags, folder *devstack.Folder, postgres, codec string, progress func(string, ...any), fail context.CancelCauseFunc) (options client.Options, ui string, stop func(), err error) {
	stop = func() {}
	own := ""
	if os.Getenv("TEMPORAL_ADDRESS") != "" {
		progress("Temporal: the server of TEMPORAL_ADDRESS")
	} else {
		if f.cluster {
			progress("Temporal: four services starting")
		} else {
			progress("Temporal: starting")
			postgres = "" // a file will do
		}
		server, err := localtemporal.Start(ctx, localtemporal.Options{
			Dir: filepath.Join(folder.Path, "temporal"), Postgres: postgres, FrontendAddress: f.temporal, UIAddress: f.ui,
			Namespace: client.DefaultNamespace, CodecEndpoint: codec,
		})
		if err != nil {
			return options, "", stop, err
		}
		go func() {
			select {
			case err := <-server.Ended():
				fail(err)
			case <-ctx.Done():
			}
		}()
		stop, ui, own = server.Stop, uiURL(server), server.FrontendAddress
	}
	if options, err = temporalOptions(own); err == nil {
		err = ensureSearchAttributes(ctx, options)
	}
	if err != nil {
		stop()
	}
	return options, ui, stop, err
}

// temporalOptions says how to reach the Temporal of TEMPORAL_ADDRESS or, where that is not set, the
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
		"SEAL_KEYSET": keys["SEAL_KEYSET"], "INDEX_KEYSET": keys["INDEX_KEYSET"], "TOKEN_KEY": keys["TOKEN_KEY"], "CODEC_TOKEN": keys["CODEC_TOKEN"],
		"HTTP_ADDRESS":       httpAddress,
		"DATABASE_POOL_SIZE": "8", // enough for one who tries it out: the default is for a server with more to do
	}
}

// environment is what narthex.env holds: with it, every narthex command reaches this stack.
func environment(running devstack.Stack, databases devstack.Databases, keys devstack.Keys) map[string]string {
	all := variables(databases, keys, "127.0.0.1:0") // the stack's own API has its address already
	for _, variable := range os.Environ() {
		if name, value, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "TEMPORAL_") {
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
