package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/internal/manifest"
	"github.com/waxseal/waxseal/platforms/apple"
	"github.com/waxseal/waxseal/profiles"
)

func (p *program) applyCommand() *cobra.Command {
	var files []string
	var dryRun bool
	cmd := &cobra.Command{
		Use: "apply -f FILE|DIR", Short: "make the server's users, profiles and assignments be what the files say", Args: cobra.NoArgs,
		RunE: p.withClient(func(ctx context.Context, c *api.Client, _ []string) error {
			if len(files) == 0 {
				return withHint(errors.New("which files?"), "waxctl apply -f sales.yaml")
			}
			return p.apply(ctx, c, files, dryRun)
		}),
	}
	cmd.Flags().StringSliceVarP(&files, "file", "f", nil, "YAML or JSON file, or a folder of them")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would change")
	return cmd
}

func (p *program) apply(ctx context.Context, c *api.Client, files []string, dryRun bool) error {
	objects, faults := manifest.Load(files...)
	faults = append(faults, checkCustom(objects)...)
	if len(faults) > 0 {
		return p.allFaults(ctx, c, objects, faults)
	}
	answer, err := c.Apply(ctx, objects, dryRun)
	if err != nil {
		return err
	}
	for _, w := range answer.Warnings {
		p.say("warning: %s", w)
	}
	for _, ch := range answer.Changes {
		p.say("%s %s %s%s", ch.Kind, ch.Name, ch.Action, dryRunNote(dryRun))
	}
	return nil
}

// allFaults adds to the faults of the files what the server would find, so that everything is said at once. What the server
// has already counts as known; if it cannot be asked, the faults of the files alone are said.
func (p *program) allFaults(ctx context.Context, c *api.Client, objects []profiles.Object, faults profiles.Faults) error {
	known := profiles.Known{Profiles: map[string]profiles.Kind{}}
	there, err := api.All(ctx, c.Objects)
	if err != nil {
		return faults
	}
	for _, o := range there {
		if o.Kind.IsProfile() {
			known.Profiles[o.Name] = o.Kind
		}
	}
	more, _ := profiles.Check(objects, known)
	return append(faults, more...)
}

func dryRunNote(dryRun bool) string {
	if dryRun {
		return " (dry run: nothing was changed)"
	}
	return ""
}

// checkCustom refuses uploaded profiles with keys or passwords before they leave this machine.
func checkCustom(objects []profiles.Object) profiles.Faults {
	var faults profiles.Faults
	for _, o := range objects {
		custom, ok := o.Spec.(*profiles.Custom)
		if !ok || len(custom.Content) == 0 {
			continue
		}
		// The server's namespace is not known here; it checks its own identifiers again.
		if err := apple.CheckCustom(custom.Content, "io.waxseal."); err != nil {
			faults = append(faults, profiles.Fault{Path: fmt.Sprintf("Custom %s: spec.file %s", o.Name, custom.File), Message: err.Error()})
		}
	}
	return faults
}

func (p *program) deleteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "delete KIND NAME", Short: "remove a profile, an assignment, a user without devices, or an escrow record", Args: cobra.ExactArgs(2),
		Example: "  waxctl delete Assignment sales-mail\n  waxctl delete escrow RECORD-ID",
		RunE: p.withClient(func(ctx context.Context, c *api.Client, args []string) error {
			if strings.EqualFold(args[0], "escrow") {
				return c.DeleteRecord(ctx, args[1])
			}
			for _, k := range profiles.Kinds() {
				if strings.EqualFold(string(k), args[0]) {
					return c.DeleteObject(ctx, k, args[1])
				}
			}
			return withHint(fmt.Errorf("kind %q is not known", args[0]), "kinds are %v and escrow", profiles.Kinds())
		}),
	}
}
