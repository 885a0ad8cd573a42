package androidmdm

import (
	"testing"

	"github.com/waxseal/waxseal/platforms/android/companion"
)

// What is stored is a release, which plans go by, also of an app that says the API level alone.
func TestFactsHaveARelease(t *testing.T) {
	for want, d := range map[string]companion.Device{"10": {SDKInt: 29}, "15": {SDKInt: 29, Release: "15"}} {
		if got := factsOf(d).OSVersion; got != want {
			t.Errorf("%+v is stored as Android %q, want %q", d, got, want)
		}
	}
}
