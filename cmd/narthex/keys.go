package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"narthex/internal/config"
	"narthex/internal/registry"
	"narthex/internal/secrets"
	"narthex/internal/tenantdb"
)

func keysCommand() *cobra.Command {
	keys := &cobra.Command{Use: "keys", Short: "Make and change keys", Args: cobra.NoArgs, Example: "  narthex keys new >> .env"}
	keys.AddCommand(newKeysCommand(), rotateKeysCommand(), resealCommand())
	return keys
}

func newKeysCommand() *cobra.Command {
	return &cobra.Command{
		Use: "new", Short: "Print fresh keys as lines for an environment file", Args: cobra.NoArgs,
		Example: "  narthex keys new >> .env",
		RunE: func(cmd *cobra.Command, _ []string) error {
			fresh, err := config.NewKeys()
			if err != nil {
				return err
			}
			printVariables(cmd, fresh)
			return nil
		},
	}
}

func printVariables(cmd *cobra.Command, variables map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		fmt.Fprintf(cmd.OutOrStdout(), "%s='%s'\n", name, variables[name])
	}
}

func rotateKeysCommand() *cobra.Command {
	var stage string
	cmd := &cobra.Command{
		Use:   "rotate [VARIABLE...]",
		Short: "Print the environment's keys with a fresh one, as lines for an environment file",
		Long: `Print the environment's keys with a fresh one, as lines for an environment file.

One process alone: rotate, restart it, keys reseal, rotate --stage retire, restart it.
Several processes: each must know a key before another writes under it. So give all of them what
--stage add prints, then all what --stage promote prints; then keys reseal, and --stage retire.
Retire a SEAL_KEYSET key 30 days after it was replaced: until then Temporal keeps histories that are
sealed under it. Retire a TOKEN_KEY 15 minutes after: until then its access tokens are good.

Without names, all of SEAL_KEYSET, INDEX_KEYSET and TOKEN_KEY that are set are rotated.`,
		Example:   "  narthex --env-file .env keys rotate > rotated.env\n  narthex --env-file .env keys rotate --stage retire TOKEN_KEY",
		ValidArgs: config.KeyVariables(),
		RunE: func(cmd *cobra.Command, names []string) error {
			for _, name := range names {
				if err := oneOf("variable of keys", name, config.KeyVariables()); err != nil {
					return err
				}
			}
			if err := oneOf("stage", stage, config.Stages()); err != nil {
				return err
			}
			variables, err := config.Secrets()
			if err != nil {
				return err
			}
			rotated, err := config.RotateKeys(variables, config.Stage(stage), names)
			if err != nil {
				return err
			}
			printVariables(cmd, rotated)
			return nil
		},
	}
	cmd.Flags().StringVar(&stage, "stage", string(config.StageReplace),
		"`STAGE` of the rotation: replace (add and promote at once), add, promote or retire")
	completes(cmd, "stage", config.Stages())
	return cmd
}

func resealCommand() *cobra.Command {
	return &cobra.Command{
		Use: "reseal", Short: "Seal everything again under the primary keys, while the service runs", Args: cobra.NoArgs,
		Long: `Seal everything again under the primary keys, while the service runs. It can be interrupted and run
again: it continues with what is left.`,
		Example: "  narthex --env-file .env keys reseal",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withRegistry(cmd, func(_ context.Context, reg *registry.Registry, keys *secrets.Keys) error {
				return reseal(cmd, reg, keys)
			})
		},
	}
}

func reseal(cmd *cobra.Command, reg *registry.Registry, keys *secrets.Keys) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	if err := reg.CheckKeys(ctx); err != nil {
		return inOneSentence(ctx, "the registry cannot be resealed", err)
	}
	rows := map[string]int{}
	err := reg.Reseal(ctx, func(table string, batch int) {
		rows[table] += batch
		fmt.Fprintf(out, "registry, %s: %d rows\n", table, rows[table])
	})
	if err != nil {
		return inOneSentence(ctx, "the registry was resealed in part: run this again", err)
	}
	tenants, err := reg.TenantIDs(ctx)
	if err != nil {
		return inOneSentence(ctx, "the registry was resealed, the tenants were not: run this again", err)
	}
	var failed int
	for i, id := range tenants {
		resealed, err := resealTenant(ctx, reg, keys, id)
		if ctx.Err() != nil {
			return fmt.Errorf("stopped after %d of %d tenants: run this again", i, len(tenants))
		}
		if err != nil {
			failed++
			fmt.Fprintf(os.Stderr, "tenant %d of %d, %s: not resealed: %s\n", i+1, len(tenants), id, describe(err))
			continue
		}
		fmt.Fprintf(out, "tenant %d of %d, %s: %d rows\n", i+1, len(tenants), id, resealed)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d tenants were not resealed: fix the errors above, and run this again", failed, len(tenants))
	}
	fmt.Fprintln(out, "Everything is sealed under the primary keys.")
	return nil
}

// tenantLimit keeps one church's database from delaying the others.
const tenantLimit = time.Minute

func resealTenant(ctx context.Context, reg *registry.Registry, keys *secrets.Keys, id string) (rows int, err error) {
	ctx, cancel := context.WithTimeout(ctx, tenantLimit)
	defer cancel()
	return tenantdb.Reseal(ctx, reg, keys, id)
}

func inOneSentence(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return errors.New(what + " (stopped)")
	}
	return fmt.Errorf("%s (%s)", what, describe(err))
}
