package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/waxseal/waxseal/internal/clock"
	"github.com/waxseal/waxseal/waxctl/internal/demo"
)

func (p *program) demoCommand() *cobra.Command {
	var keep string
	cmd := &cobra.Command{
		Use: "demo", Short: "play the whole story on this machine and verify every step", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.demo(cmd.Context(), keep) },
	}
	cmd.Flags().StringVar(&keep, "keep", "", "folder that keeps everything for looking around")
	return cmd
}

func (p *program) demo(ctx context.Context, keep string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the programs: %w", err)
	}
	dir, cleanUp, err := demoDir(keep)
	if err != nil {
		return err
	}
	err = demo.Play(ctx, demo.Config{Bin: filepath.Dir(self), Dir: dir, Out: p.env.Stdout, Clock: clock.Now, Waxctl: p.again})
	if err != nil {
		return withHint(err, "everything is left in %s for looking around; remove it when done", dir)
	}
	cleanUp()
	if keep != "" {
		p.say("everything is kept in %s. To look around, start the programs again:", keep)
		p.say("  waxseal-server --data %[1]s/server --listen 127.0.0.1:0 &", dir)
		p.say("  waxseal-connector run --keyring %[1]s/connector &", dir)
		p.say("  waxctl --server $(cat %[1]s/server/address) --ca %[1]s/server/ca.pem --token-file %[1]s/server/admin-token get devices", dir)
	}
	return nil
}

// again runs another waxctl command in this process, without this shell's environment.
func (p *program) again(ctx context.Context, args ...string) (stdout, stderr string, code int) {
	var out, errs bytes.Buffer
	code = Run(ctx, args, Env{Stdout: &out, Stderr: &errs, Getenv: func(string) string { return "" }, Rand: p.env.Rand})
	return out.String(), errs.String(), code
}

func demoDir(keep string) (dir string, cleanUp func(), err error) {
	if keep == "" {
		dir, err = os.MkdirTemp("", "waxseal-demo-")
		return dir, func() { _ = os.RemoveAll(dir) }, err
	}
	if entries, err := os.ReadDir(keep); err == nil && len(entries) > 0 {
		return "", nil, withHint(fmt.Errorf("%s is not empty", keep), "give a new folder: waxctl demo --keep %s-2", keep)
	}
	dir, err = filepath.Abs(keep)
	return dir, func() {}, err
}
