package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"narthex/internal/children"
	"narthex/internal/dev/program"
	"narthex/internal/fleet"
	"narthex/internal/ids"
	"narthex/internal/schema"
	"narthex/migrations"
)

const (
	fleetSize      = 200 // churches that are changed in a round
	fewChurches    = 100 // a run over them should need as much memory as a run over all
	currentRuns    = 5   // over churches that are all current
	samplesPerTurn = 20  // samples for which there is one round

	nextBuild   = "next" // greater, as text, than a time
	fleetPolled = 20 * time.Millisecond
)

// nextMigrations are the change that is measured: a column and its index. The index has its own file because it is built
// CONCURRENTLY.
var nextMigrations = map[string]string{
	fmt.Sprintf("%06d_planted.up.sql", migrations.TenantVersion()+1): addColumn,
	fmt.Sprintf("%06d_planted.down.sql", migrations.TenantVersion()+1): `
		ALTER TABLE branches DROP COLUMN planted`,
	fmt.Sprintf("%06d_planted_index.up.sql", migrations.TenantVersion()+2): "-- no transaction\n" + addIndex,
	fmt.Sprintf("%06d_planted_index.down.sql", migrations.TenantVersion()+2): "-- no transaction\n" + `
		DROP INDEX CONCURRENTLY branches_planted_idx`,
}

const (
	addColumn = `ALTER TABLE branches ADD COLUMN planted date`
	addIndex  = `CREATE INDEX CONCURRENTLY branches_planted_idx ON branches (planted)`

	// Not measured: reverts a church to the old schema.
	takeBack  = `ALTER TABLE branches DROP COLUMN IF EXISTS planted; UPDATE narthex_migrations.versions SET version = %d, dirty = false`
	isChanged = `SELECT version = $1 AND NOT dirty FROM narthex_migrations.versions`

	countReady = `SELECT count(*) FROM pg_database WHERE datname LIKE 'pool\_%'`

	setBehind   = `UPDATE tenants SET schema_version = $1 WHERE id = ANY($2)`
	setCurrent  = `UPDATE tenants SET schema_version = $1 WHERE id <> ALL($2)`
	runProgress = `
		SELECT count(*) FILTER (WHERE state IN ('waiting', 'changing')) AS left, count(*) FILTER (WHERE state = 'changed') AS changed,
			coalesce(max(updated_at), now()) AS last_at
		FROM fleet_changes WHERE run_id = $1`
)

// fleetBench changes the churches' schema, by a run of the next release's worker or in another way.
type fleetBench struct {
	*bench
	program  string // the next release's
	files    fs.FS  // its tenant schema
	server   string // host:port
	registry *pgxpool.Pool
	worker   *children.Process
	churches []string // ids
}

// measureFleet compares runs over the fleet with a loop over its databases. Before each round, all databases are reverted.
func (b *bench) measureFleet(ctx context.Context) error {
	if err := b.fill(ctx, b.tenants); err != nil {
		return err
	}
	f, err := b.newFleet()
	if err != nil {
		return err
	}
	if err := f.startWorker(ctx); err != nil {
		return err
	}
	if err := f.warmUp(ctx); err != nil {
		return err
	}
	if err := f.compare(ctx); err != nil {
		return err
	}
	return f.measureSizes(ctx)
}

// newFleet builds the next release.
func (b *bench) newFleet() (*fleetBench, error) {
	b.progress("Building the next release, whose tenant schema has one more column and index.")
	f := &fleetBench{bench: b, registry: b.stack.ready.registry}
	folder := filepath.Join(b.stack.folder, "next")
	err := os.CopyFS(folder, migrations.Tenant)
	if err == nil {
		f.program, err = program.BuildNext("narthex", folder, nextMigrations)
	}
	if err != nil {
		return nil, err
	}
	f.files = os.DirFS(folder)
	at, err := url.Parse(b.stack.databases.TenantServerURL)
	if err != nil {
		return nil, errors.New("the server's URL is malformed")
	}
	f.server = at.Host
	for _, c := range b.churches {
		f.churches = append(f.churches, c.TenantID)
	}
	return f, nil
}

// startWorker starts the next release's worker. It keeps no databases ready, because making them would disturb the measurement.
func (f *fleetBench) startWorker(ctx context.Context) error {
	if f.worker != nil {
		f.worker.End(stopPatience)
	}
	worker, err := f.stack.startProgram(ctx, f.program, "worker", map[string]string{"BUILD_ID": nextBuild, "DATABASE_POOL_SIZE": "0"})
	f.worker = worker.process
	return err
}

// warmUp is a run that makes the next release's template. It returns when all ready databases with the older schema have
// been dropped.
func (f *fleetBench) warmUp(ctx context.Context) error {
	if err := f.takeBack(ctx, f.churches[:1]); err != nil {
		return err
	}
	if _, err := f.run(ctx, 1); err != nil {
		return err
	}
	for there := 1; there > 0; {
		if err := f.registry.QueryRow(ctx, countReady).Scan(&there); err != nil {
			return err
		}
		if err := pause(ctx, fleetPolled); err != nil {
			return err
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// compare changes some churches in each of the ways, which take turns.
func (f *fleetBench) compare(ctx context.Context) error {
	churches := f.churches[:min(fleetSize, len(f.churches))]
	rounds := max(1, f.samples/samplesPerTurn)
	f.progress("Schema changes of %d churches: golang-migrate's loop, runs over the fleet, and the statements alone, %d rounds.",
		len(churches), rounds)
	loop := &variant{name: "schema change: golang-migrate, one church after the other"}
	one := &variant{name: "schema change: run over the fleet, 1 at once"}
	four := &variant{name: "schema change: run over the fleet, 4 at once"}
	bareOne := &variant{name: "schema change: the bare statements, 1 at once"}
	bareFour := &variant{name: "schema change: the bare statements, 4 at once"}
	change := map[*variant]func() (time.Duration, error){
		loop:     func() (time.Duration, error) { return timed(func() error { return f.migrateEach(ctx, churches) }) },
		one:      func() (time.Duration, error) { return f.run(ctx, 1) },
		four:     func() (time.Duration, error) { return f.run(ctx, 4) },
		bareOne:  func() (time.Duration, error) { return timed(func() error { return f.changeBare(ctx, churches, 1) }) },
		bareFour: func() (time.Duration, error) { return timed(func() error { return f.changeBare(ctx, churches, 4) }) },
	}
	variants := []*variant{loop, one, four, bareOne, bareFour}
	for round := range rounds {
		for i := range variants {
			v := variants[(i+round)%len(variants)]
			if err := f.takeBack(ctx, churches); err != nil {
				return err
			}
			took, err := change[v]()
			if err == nil {
				err = f.check(ctx, churches)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", v.name, err)
			}
			v.burst.size, v.burst.rounds = len(churches), append(v.burst.rounds, took)
		}
	}
	f.report.rates = append(f.report.rates, variants...)
	perLoop := func(v *variant) float64 { return ratio(v.burst.perSecond(), loop.burst.perSecond()) }
	f.add(figureFleet, figure{
		what: "schema changes a second, 4 at once / golang-migrate's loop", value: perLoop(four), goal: 3, atLeast: true,
	})
	f.add(figureFleet, figure{
		what: "schema changes a second, 1 at once / golang-migrate's loop", value: perLoop(one), goal: 1.5, atLeast: true,
	})
	f.add(figureFleet, figure{what: "the bare statements, 4 at once / golang-migrate's loop", value: perLoop(bareFour)})
	f.add(figureFleet, figure{what: "the bare statements, 1 at once / golang-migrate's loop", value: perLoop(bareOne)})
	return nil
}

// measureSizes measures how much memory a worker uses after a run over few churches and after one over all, and how long a
// run takes if all churches are current.
func (f *fleetBench) measureSizes(ctx context.Context) error {
	few := f.churches[:min(fewChurches, len(f.churches))]
	f.progress("Runs over %d and over %d churches, each by a worker that has just started.", len(few), len(f.churches))
	var memory []float64
	for _, churches := range [][]string{few, f.churches} {
		if err := errors.Join(f.takeBack(ctx, churches), f.startWorker(ctx)); err != nil {
			return err
		}
		if _, err := f.run(ctx, fleet.DefaultAtOnce); err != nil {
			return err
		}
		resident, err := residentMemory(f.worker.PID())
		if err != nil {
			return err
		}
		memory = append(memory, resident)
	}
	current := &variant{name: fmt.Sprintf("run over %d churches that are current", len(f.churches)), do: f.runToEnd}
	if err := alternate(ctx, currentRuns, noRest, current); err != nil {
		return err
	}
	f.report.times = append(f.report.times, current)
	f.add(figureFleet, figure{
		what:  fmt.Sprintf("memory (RSS) of the worker after a run over %d churches / over %d", len(f.churches), len(few)),
		value: ratio(memory[1], memory[0]), goal: 1.2,
	})
	f.add(figureFleet, figure{
		what:  fmt.Sprintf("run over %d churches that are current, p50", len(f.churches)),
		value: float64(current.times.p50().Milliseconds()), unit: " ms", goal: 1000,
	})
	return nil
}

func timed(do func() error) (time.Duration, error) {
	begun := time.Now()
	err := do()
	return time.Since(begun), err
}

func (f *fleetBench) input(options fleet.Options) fleet.Input {
	return fleet.Input{RunID: ids.New(), Server: f.server, Version: migrations.Newest(f.files), Options: options}
}

// run brings the churches that are behind to the next release's schema. It returns the time from its start until the ledger
// has the last church. After that, the run would only wait for signups, so it is cancelled.
func (f *fleetBench) run(ctx context.Context, atOnce int) (took time.Duration, err error) {
	in := f.input(fleet.Options{AtOnce: atOnce})
	begun := time.Now()
	if err := fleet.Start(ctx, f.stack.temporal, taskQueue, in); err != nil {
		return 0, err
	}
	for took == 0 && err == nil {
		took, err = f.lookAt(ctx, in.RunID, begun)
	}
	if err != nil {
		return 0, err
	}
	if err := fleet.Cancel(ctx, f.stack.temporal, f.server); err != nil {
		return 0, err
	}
	_ = f.stack.temporal.GetWorkflow(ctx, fleet.WorkflowID(f.server), "").Get(ctx, nil) // its error only says that it was cancelled
	return took, ctx.Err()
}

// lookAt waits a moment, then returns how long the run took, or 0 if it isn't over.
func (f *fleetBench) lookAt(ctx context.Context, runID string, begun time.Time) (took time.Duration, err error) {
	if err := pause(ctx, fleetPolled); err != nil {
		return 0, err
	}
	var left, changed int
	var last time.Time
	if err := f.registry.QueryRow(ctx, runProgress, runID).Scan(&left, &changed, &last); err != nil {
		return 0, err
	}
	if left > 0 || changed == 0 {
		return 0, nil
	}
	return last.Sub(begun), nil
}

// runToEnd is a run that finds nothing to do.
func (f *fleetBench) runToEnd(ctx context.Context) error {
	if err := fleet.Start(ctx, f.stack.temporal, taskQueue, f.input(fleet.Options{})); err != nil {
		return err
	}
	return f.stack.temporal.GetWorkflow(ctx, fleet.WorkflowID(f.server), "").Get(ctx, nil)
}

// migrateEach is what one would write without a ledger: a loop that runs golang-migrate on each database.
func (f *fleetBench) migrateEach(ctx context.Context, churches []string) error {
	for _, id := range churches {
		config, err := f.config(id)
		if err == nil {
			err = schema.Up(ctx, config, f.files, nil)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
	}
	return nil
}

// config returns how to connect to a church's database as its role.
func (f *fleetBench) config(id string) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(f.stack.databases.TenantServerURL)
	if err != nil {
		return nil, err
	}
	config.Database, config.RuntimeParams["role"] = ids.DatabaseName(id), ids.DatabaseName(id)
	return config, nil
}

// changeBare runs only the statements: no change can be faster on this machine.
func (f *fleetBench) changeBare(ctx context.Context, churches []string, atOnce int) error {
	return f.onEach(ctx, churches, atOnce, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, addColumn+fmt.Sprintf(`; UPDATE narthex_migrations.versions SET version = %d`, migrations.Newest(f.files)))
		if err == nil {
			_, err = conn.Exec(ctx, addIndex)
		}
		return err
	})
}

// takeBack reverts these churches, and marks all others as current in the registry.
func (f *fleetBench) takeBack(ctx context.Context, churches []string) error {
	before := migrations.TenantVersion()
	err := f.onEach(ctx, churches, atOnce, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, fmt.Sprintf(takeBack, before))
		return err
	})
	if err == nil {
		_, err = f.registry.Exec(ctx, setBehind, before, churches)
	}
	if err == nil {
		_, err = f.registry.Exec(ctx, setCurrent, migrations.Newest(f.files), churches)
	}
	return err
}

// check fails unless these churches' databases have the next release's schema.
func (f *fleetBench) check(ctx context.Context, churches []string) error {
	return f.onEach(ctx, churches, atOnce, func(conn *pgx.Conn) error {
		var changed bool
		err := conn.QueryRow(ctx, isChanged, migrations.Newest(f.files)).Scan(&changed)
		if err == nil && !changed {
			err = errors.New(conn.Config().Database + " was not changed")
		}
		return err
	})
}

func (f *fleetBench) onEach(ctx context.Context, churches []string, atOnce int, do func(*pgx.Conn) error) error {
	var group errgroup.Group
	group.SetLimit(atOnce)
	for _, id := range churches {
		group.Go(func() error {
			config, err := f.config(id)
			if err != nil {
				return err
			}
			config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
			conn, err := pgx.ConnectConfig(ctx, config)
			if err != nil {
				return err
			}
			defer conn.Close(context.WithoutCancel(ctx))
			return do(conn)
		})
	}
	return group.Wait()
}
