package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"narthex/cmd/internal/process"
	"narthex/internal/config"
	"narthex/internal/fleet"
	"narthex/internal/ids"
	"narthex/internal/registry"
	"narthex/internal/secrets"
	"narthex/internal/tenantserver"
	"narthex/migrations"
)

func fleetDriftCommand() *cobra.Command {
	var one string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "drift", Short: "Show how churches' databases differ from the newest schema", Args: cobra.NoArgs,
		Long: `Show how churches' databases differ from the newest schema: tables, columns, constraints, indexes, owners,
grants and so on, but no rows. It changes nothing, and can run while churches are in use. It exits with 1 if a
database differs or could not be compared.`,
		Example: "  narthex fleet drift\n  narthex fleet drift --one 01m89x7m6zry4hep2a3rj5z1b8 --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("one") && !ids.Valid(one) {
				return usage("%q is not a tenant id", one)
			}
			var c struct {
				config.Registry
				config.Keys
				config.TenantServers
			}
			if err := config.Parse(&c); err != nil {
				return err
			}
			return withRegistry(cmd, func(ctx context.Context, reg *registry.Registry, _ *secrets.Keys) error {
				servers, err := process.OpenServers(ctx, c.TenantServers, reg)
				if err != nil {
					return err
				}
				for _, server := range servers {
					defer server.Close()
				}
				check := fleet.DriftCheck{Newest: migrations.TenantVersion(), Churches: reg.FleetAfter, Compare: comparing(ctx, servers)}
				if one != "" {
					check.Churches = justOne(reg, one)
				}
				return findDrift(cmd, check, asJSON)
			})
		},
	}
	cmd.Flags().StringVar(&one, "one", "", "check only the church with this tenant `ID`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// justOne returns pages that contain only one church.
func justOne(reg *registry.Registry, id string) func(ctx context.Context, after string) ([]fleet.Church, error) {
	return func(ctx context.Context, after string) ([]fleet.Church, error) {
		if after != "" {
			return nil, nil
		}
		church, err := reg.FleetChurch(ctx, id)
		return []fleet.Church{church}, err
	}
}

// comparing returns a function that compares a church's database with the newest schema on the same server.
func comparing(ctx context.Context, servers []*tenantserver.Server) func(context.Context, fleet.Church) ([]string, error) {
	comparers := map[string]*tenantserver.Comparer{}
	for _, server := range servers {
		comparers[server.Name()] = server.Comparer(ctx)
	}
	return func(ctx context.Context, church fleet.Church) (words []string, err error) {
		comparer, ok := comparers[church.Server]
		if !ok {
			return nil, errors.New("neither TENANT_SERVER_URL nor OTHER_TENANT_SERVER_URLS points to " + church.Server)
		}
		differences, err := comparer.Compare(ctx, church.Database)
		for _, d := range differences {
			words = append(words, d.String())
		}
		return words, err
	}
}

// findDrift prints differences as soon as it finds them. Its error says how many churches differ.
func findDrift(cmd *cobra.Command, check fleet.DriftCheck, asJSON bool) error {
	printer := &driftPrinter{out: cmd.OutOrStdout(), asJSON: asJSON}
	check.Report = printer.add
	count, err := fleet.FindDrift(cmd.Context(), check)
	if endErr := printer.end(count); endErr != nil {
		return endErr
	}
	switch {
	case errors.Is(err, registry.ErrNotFound):
		return errors.New("there is no church with this id that has a database")
	case err != nil:
		return inOneSentence(cmd.Context(), fmt.Sprintf("the check ended after %d churches", count.All), err)
	case count.Same() < count.All:
		return fmt.Errorf("drift in %d of %d churches, and %d could not be compared", count.Differing, count.All, count.Uncompared)
	case !asJSON:
		fmt.Fprintf(cmd.OutOrStdout(), "%d of %d churches have schema version %d.\n", count.Same(), count.All, check.Newest)
	}
	return nil
}

// driftPrinter prints differing churches one by one, because there may be more than fit into memory.
type driftPrinter struct {
	out    io.Writer
	asJSON bool
	begun  bool // the JSON
}

func (p *driftPrinter) add(d fleet.Drift) error {
	failure := ""
	if d.Err != nil {
		failure = describe(d.Err)
	}
	switch {
	case d.Err == nil && len(d.Differences) == 0:
		return nil
	case p.asJSON:
		return p.addJSON(struct {
			fleet.Church
			Differences []string `json:"differences,omitempty"`
			Error       string   `json:"error,omitempty"` // why the church could not be compared
		}{d.Church, d.Differences, failure})
	case d.Err != nil:
		_, err := fmt.Fprintf(p.out, "%s: could not be compared: %s\n", d.Database, printable(failure))
		return err
	}
	for _, difference := range d.Differences {
		if _, err := fmt.Fprintf(p.out, "%s: %s\n", d.Database, printable(difference)); err != nil {
			return err
		}
	}
	return nil
}

func (p *driftPrinter) addJSON(church any) error {
	encoded, err := json.Marshal(church)
	if err != nil {
		return err
	}
	before := ",\n  "
	if !p.begun {
		before = "{\"drift\": [\n  "
	}
	p.begun = true
	_, err = fmt.Fprintf(p.out, "%s%s", before, escapeControls(encoded))
	return err
}

// end completes the JSON.
func (p *driftPrinter) end(count fleet.DriftCount) error {
	if !p.asJSON {
		return nil
	}
	encoded, err := json.Marshal(count)
	if err != nil {
		return err
	}
	before := "\n], "
	if !p.begun {
		before = "{\"drift\": [], "
	}
	_, err = fmt.Fprintf(p.out, "%s\"count\": %s}\n", before, encoded)
	return err
}
