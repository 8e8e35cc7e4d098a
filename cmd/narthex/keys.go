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
	keys := &cobra.Command{Use: "keys", Short: "Create and rotate keys", Args: cobra.NoArgs, Example: "  narthex keys new >> .env"}
	keys.AddCommand(newKeysCommand(), rotateKeysCommand(), resealCommand())
	return keys
}

func newKeysCommand() *cobra.Command {
	return &cobra.Command{
		Use: "new", Short: "Print new keys as lines for an environment file", Args: cobra.NoArgs,
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
		Short: "Print the environment's keys together with a new one, as lines for an environment file",
		Long: `Print the environment's keys together with a new one, as lines for an environment file.

With a single process: rotate, restart it, keys reseal, rotate --stage retire, restart it.
With several processes, each must know a key before another one writes with it. So give all of them what
--stage add prints, and then what --stage promote prints. Then run keys reseal, and rotate --stage retire.
Retire a key of SEAL_KEYSET 30 days after it was replaced, because Temporal keeps histories that are
encrypted with it that long. Retire a TOKEN_KEY after 15 minutes, when its last access tokens have expired.

Without names, it rotates those of SEAL_KEYSET, INDEX_KEYSET and TOKEN_KEY that are set.`,
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
		Use: "reseal", Short: "Encrypt everything again with the primary keys, while the service runs", Args: cobra.NoArgs,
		Long: `Encrypt everything again with the primary keys, while the service runs. If it is
interrupted, run it again: it continues where it stopped.`,
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
		return inOneSentence(ctx, "the registry was only partly resealed: run this again", err)
	}
	tenants, err := reg.TenantIDs(ctx)
	if err != nil {
		return inOneSentence(ctx, "the registry was resealed, but the tenants were not: run this again", err)
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
	fmt.Fprintln(out, "Everything is encrypted with the primary keys.")
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
