package mde

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// peer runs a program that others wrote and fails the test when it does. A missing one skips, unless the run is strict.
func peer(t *testing.T, name string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if os.Getenv("WAXSEAL_TEST_STRICT") == "1" {
			t.Fatalf("%s is missing", name)
		}
		t.Skipf("%s is missing", name)
	}
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Errorf("%s %v: %v\n%s", name, args, err, out)
	}
}

// TestXMLLintReadsAll: the library that others use takes what we write, and what our tests call Windows' requests.
func TestXMLLintReadsAll(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "golden", "*.xml"))
	if err != nil || len(files) < 15 {
		t.Fatalf("only %d golden files: %v", len(files), err)
	}
	peer(t, "xmllint", append([]string{"--noout", "--nonet"}, files...)...)
}
