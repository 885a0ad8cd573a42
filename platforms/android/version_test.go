package android

import (
	"testing"
)

func TestRelease(t *testing.T) {
	cases := []struct {
		release string
		api     int
		want    string
	}{
		{"15", 35, "15"}, {"", 21, "5"}, {"", 22, "5"}, {"", 23, "6"}, {"", 24, "7"}, {"", 25, "7"}, {"", 26, "8"}, {"", 27, "8"}, {"", 28, "9"},
		{"", 29, "10"}, {"", 30, "11"}, {"", 31, "12"}, {"", 32, "12"}, {"", 33, "13"}, {"", 34, "14"}, {"", 35, "15"}, {"", 36, "16"}, {"", 37, "17"},
		{"", 0, ""}, {"8.1.0", 27, "8.1.0"},
	}
	for _, c := range cases {
		if got := Release(c.release, c.api); got != c.want {
			t.Errorf("release %q, API %d: %q, want %q", c.release, c.api, got, c.want)
		}
	}
}

// grantKeyPairToApp came with API 30, keys that the device makes with API 28, however the version is written.
func TestVersionsThatAreAPILevels(t *testing.T) {
	cases := map[string]struct{ grants, generates bool }{
		"API 27": {false, false}, "API 28": {false, true}, "API 29": {false, true}, "API 30": {true, true}, "API 35": {true, true},
		"27": {false, false}, "28": {false, true}, "29": {false, true}, "30": {true, true},
		"8.1.0": {false, false}, "9": {false, true}, "10": {false, true}, "11": {true, true}, "": {true, true}, "R": {true, true},
	}
	for version, want := range cases {
		if grants(version) != want.grants || generates(version) != want.generates {
			t.Errorf("%q: grants %v, generates %v", version, grants(version), generates(version))
		}
	}
}
