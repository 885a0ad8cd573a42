package config

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestAndroidSettings(t *testing.T) {
	for _, tt := range []struct {
		args []string
		bad  string
	}{
		{nil, ""},
		{[]string{"--amapi-enterprise=enterprises/LC0", "--amapi-token-file=token"}, ""},
		{[]string{"--amapi-enterprise=enterprises/LC0"}, "amapi-token-file"},
		{[]string{"--amapi-token-file=token"}, "amapi-enterprise"},
	} {
		var s Settings
		f := pflag.NewFlagSet("server", pflag.ContinueOnError)
		s.Flags(f)
		if err := f.Parse(tt.args); err != nil {
			t.Fatal(err)
		}
		err := s.Check()
		if (err == nil) != (tt.bad == "") || (err != nil && !strings.Contains(err.Error(), tt.bad)) {
			t.Errorf("%q: %v", tt.args, err)
		}
		if s.Android.Package != DefaultCompanionPackage {
			t.Errorf("%q: package %s", tt.args, s.Android.Package)
		}
	}
}
