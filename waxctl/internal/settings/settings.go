// Package settings finds out which server waxctl speaks to: flag, then environment, then file, then default.
package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/goccy/go-yaml"
)

// Settings name a server, what it is trusted by, and where waxctl keeps its pins.
type Settings struct {
	Server     string `yaml:"server"`
	CA         string `yaml:"ca"`
	TokenFile  string `yaml:"tokenFile"`
	EscrowRoot string `yaml:"escrowRoot"`
	StateDir   string `yaml:"stateDir"`
}

// maxFile bounds the configuration file.
const maxFile = 64 << 10

// Resolve fills what the flags left empty. getenv is os.Getenv; file is the configuration file, empty for the default
// place, where it may be missing.
func Resolve(flags Settings, file string, getenv func(string) string) (Settings, error) {
	named := file != ""
	if !named {
		file = filepath.Join(configDir(getenv), "waxctl.yaml")
	}
	fromFile, err := read(file, named)
	if err != nil {
		return Settings{}, err
	}
	env := Settings{Server: getenv("WAXCTL_SERVER"), CA: getenv("WAXCTL_CA"), TokenFile: getenv("WAXCTL_TOKEN_FILE"),
		EscrowRoot: getenv("WAXCTL_ESCROW_ROOT"), StateDir: getenv("WAXCTL_STATE_DIR")}
	def := Settings{StateDir: filepath.Join(stateDir(getenv), "waxseal")}
	return merge(flags, env, fromFile, def), nil
}

func merge(layers ...Settings) Settings {
	var out Settings
	for _, l := range layers {
		for _, f := range []struct {
			to   *string
			from string
		}{{&out.Server, l.Server}, {&out.CA, l.CA}, {&out.TokenFile, l.TokenFile}, {&out.EscrowRoot, l.EscrowRoot}, {&out.StateDir, l.StateDir}} {
			if *f.to == "" {
				*f.to = f.from
			}
		}
	}
	return out
}

func read(file string, named bool) (Settings, error) {
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return Settings{}, nil
	}
	if err != nil {
		return Settings{}, fmt.Errorf("read the configuration: %w", err)
	}
	if info.Size() > maxFile {
		return Settings{}, fmt.Errorf("%s: %d bytes, a configuration has at most %d", file, info.Size(), maxFile)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return Settings{}, fmt.Errorf("read the configuration: %w", err)
	}
	var s Settings
	if err := yaml.UnmarshalWithOptions(raw, &s, yaml.Strict()); err != nil {
		return Settings{}, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}

func configDir(getenv func(string) string) string {
	if d := getenv("XDG_CONFIG_HOME"); d != "" {
		return filepath.Join(d, "waxseal")
	}
	return filepath.Join(getenv("HOME"), ".config", "waxseal")
}

func stateDir(getenv func(string) string) string {
	if d := getenv("XDG_STATE_HOME"); d != "" {
		return d
	}
	return filepath.Join(getenv("HOME"), ".local", "state")
}
