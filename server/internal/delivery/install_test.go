package delivery_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
	"github.com/waxseal/waxseal/server/internal/model"
)

// TestImports plays the ways in which an import ends.
func TestImports(t *testing.T) {
	blobFails := func(code int, original string) func(syncml.Command) (int, string) {
		return func(c syncml.Command) (int, string) {
			switch {
			case c.Verb == syncml.Atomic:
				return syncml.StatusAtomicFailed, ""
			case c.Verb == syncml.Add && strings.HasSuffix(c.Items[0].Target, "PFXCertBlob"):
				return code, original
			case c.Verb == syncml.Add:
				return syncml.StatusRolledBack, ""
			}
			return 0, ""
		}
	}
	tests := []struct {
		name  string
		spoil func(syncml.Command) (int, string)
		tree  map[string]string // after the commands
		words []string          // of the failure; none: it is installed
	}{
		{"good", nil, nil, nil},
		{"status 86", nil, map[string]string{"/Status": "86", "/Thumbprint": ""}, []string{"refused the PFX", "wrong password", "86"}},
		{"another certificate", nil, map[string]string{"/Thumbprint": strings.Repeat("F", 40)}, []string{"another certificate", strings.Repeat("F", 40)}},
		{"507 with a culprit", blobFails(500, "0x80070056"), nil, []string{"refused the PFX: wrong password or unsupported algorithm (86)", "PFXCertBlob", "500"}},
		{"507 with an unknown error", blobFails(500, "0x800710DF"), nil, []string{"PFXCertBlob", "the import failed", "(4319)"}},
		{"507 with nonsense for an error", blobFails(405, "<secret>"), nil, []string{"does not allow", "405"}},
		{"507 and nobody to blame", blobFails(215, ""), nil, []string{"took nothing of a group"}},
		{"refused, but it is there", blobFails(500, ""), map[string]string{"/Status": "0", "/Thumbprint": sha1Of}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := atPFX(t)
			k.spoil = tt.spoil
			said := k.obey()
			for leaf, v := range tt.tree {
				k.tree[pfxNode+leaf] = v
			}
			if got := short(k.hear(said...)); got != "Get Status,Get Thumbprint" {
				t.Fatalf("read back: %s", got)
			}
			k.hear(k.obey()...)
			d := k.doc("history")
			if len(tt.words) == 0 {
				if d.InstalledRevision != d.Document.Revision {
					t.Errorf("%s/%s %s", d.Status, d.Reason, d.Detail)
				}
				return
			}
			if d.Reason != platforms.ReasonDeviceRefused || d.Attempts != 1 || len(d.Payload) != 0 || strings.Contains(d.Detail, "secret") {
				t.Errorf("%s/%s %s", d.Status, d.Reason, d.Detail)
			}
			for _, word := range tt.words {
				if !strings.Contains(d.Detail, word) {
					t.Errorf("%q lacks %q", d.Detail, word)
				}
			}
			k.leaks()
		})
	}
}

// TestWhatIsThereAlready: an answer was lost, or another server was here before.
func TestWhatIsThereAlready(t *testing.T) {
	exists := func(c syncml.Command) (int, string) {
		if c.Verb == syncml.Atomic {
			return syncml.StatusAtomicFailed, ""
		}
		return 0, ""
	}
	const again = "Delete " + sha1Of + ",Atomic(Add KeyLocation,Add PFXKeyExportable,Add PFXCertPassword,Add PFXCertPasswordEncryptionType,Add PFXCertBlob)"
	fill := func(k *talk, thumbprint string) {
		for leaf, v := range map[string]string{"KeyLocation": "3", "Status": "0", "Thumbprint": thumbprint} {
			k.tree[pfxNode+"/"+leaf] = v
		}
	}
	t.Run("right", func(t *testing.T) {
		k := atPFX(t)
		fill(k, sha1Of)
		k.spoil = exists
		k.hear(k.obey()...)
		if got := short(k.hear(k.obey()...)); strings.Contains(got, "Add") {
			t.Errorf("delivered again: %s", got)
		}
		if d := k.doc("history"); d.InstalledRevision == "" {
			t.Errorf("%s/%s %s", d.Status, d.Reason, d.Detail)
		}
	})
	t.Run("wrong, then right", func(t *testing.T) {
		k := atPFX(t)
		fill(k, "11")
		k.spoil = exists
		k.hear(k.obey()...)
		uuid := k.uuid()
		k.tree[pfxNode+"/Thumbprint"] = "11" // what the failed group did is undone
		if got := short(k.hear(k.obey()...)); got != again || k.uuid() != uuid {
			t.Fatalf("%s under %s", got, k.uuid())
		}
		k.spoil = nil
		k.run()
		k.want("history", model.DocumentVerified, platforms.ReasonVerified)
		k.leaks()
	})
	t.Run("wrong for ever", func(t *testing.T) {
		k := atPFX(t)
		deliveries := 0
		k.spoil = func(c syncml.Command) (int, string) {
			if c.Verb == syncml.Delete {
				return 500, ""
			}
			return exists(c)
		}
		for len(k.asked) > 0 {
			deliveries += strings.Count(short(k.asked), "Atomic")
			if deliveries > 9 {
				t.Fatal("delivered for ever")
			}
			fill(k, "11")
			said := k.obey()
			fill(k, "11")
			k.hear(said...)
		}
		if d := k.doc("history"); d.Status != model.DocumentFailed || deliveries != 2 || !strings.Contains(d.Detail, "another certificate (11)") {
			t.Errorf("%d deliveries, %s %s", deliveries, d.Status, d.Detail)
		}
	})
	t.Run("wrong, and the payload is gone", func(t *testing.T) {
		k := atPFX(t)
		fill(k, "11")
		k.spoil = exists
		k.hear(k.obey()...)
		k.tree[pfxNode+"/Thumbprint"] = "11"
		for i := range k.store.snapshot.Documents {
			if d := &k.store.snapshot.Documents[i]; len(d.Payload) > 0 {
				d.Payload = []byte("{")
			}
		}
		k.hear(k.obey()...)
		k.want("history", model.DocumentFailed, platforms.ReasonDeviceRefused)
	})
	t.Run("the list showed something else", func(t *testing.T) {
		k := newTalk(t)
		fill(k, "11")
		k.hear()
		k.run()
		k.render()
		k.session("user")
		if got := short(k.hear()); got != again {
			t.Errorf("asked: %s", got)
		}
	})
}

// uuid is the command that the session waits for.
func (k *talk) uuid() string {
	var f struct{ UUID string }
	if err := json.Unmarshal(k.s.State, &f); err != nil {
		k.t.Fatal(err)
	}
	return f.UUID
}

func TestTrust(t *testing.T) {
	for code, good := range map[int]bool{200: true, 201: true, 418: true, 405: false} {
		k := newTalk(t)
		k.hear()
		k.spoil = func(c syncml.Command) (int, string) {
			if c.Verb != syncml.Add {
				return 0, ""
			}
			if good {
				k.tree[c.Items[0].Target] = c.Items[0].Data
			}
			return code, "0x80070005"
		}
		k.hear(k.obey()...)
		k.hear(k.obey()...)
		d := k.doc("trust")
		if (d.InstalledRevision != "") != good {
			t.Errorf("%d: %s/%s %s", code, d.Status, d.Reason, d.Detail)
		}
		if !good && (!strings.Contains(d.Detail, "405") || !strings.Contains(d.Detail, "error 0x80070005") || strings.Contains(d.Detail, "import")) {
			t.Errorf("%d: %s", code, d.Detail)
		}
	}
}
