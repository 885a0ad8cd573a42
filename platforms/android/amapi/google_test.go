package amapi

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/api/androidmanagement/v1"
)

// TestGoogleReadsThePolicy: what we write has no field that Google's own types do not know.
func TestGoogleReadsThePolicy(t *testing.T) {
	ours, err := os.ReadFile(filepath.Join("testdata", "policy.json"))
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(ours))
	d.DisallowUnknownFields()
	var policy androidmanagement.Policy
	if err := d.Decode(&policy); err != nil {
		t.Fatal(err)
	}
	if len(policy.Applications) == 0 || policy.Applications[0].PackageName == "" {
		t.Errorf("applications: %+v", policy.Applications)
	}
	d = json.NewDecoder(bytes.NewReader([]byte(`{"application": []}`)))
	d.DisallowUnknownFields()
	if d.Decode(&policy) == nil {
		t.Error("an unknown field is taken, so this test proves nothing")
	}
}
