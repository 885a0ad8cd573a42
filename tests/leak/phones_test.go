package leak

import (
	"crypto/x509"
	"encoding/json"
	"net/http"
	"path"
	"strings"
)

// phones of the story: Android devices with the companion app, all Alice's.
var phones = []string{"phone", "old-phone"}

const (
	companionEnrolment = "/agent/v1/enroll"
	companionItems     = "/agent/v1/items/"
)

// enrolPhone enrols an Android device of Alice's by the companion app and syncs it.
func (h *house) enrolPhone(device, version, mode string) {
	h.t.Helper()
	link := h.mustWaxctl("enroll", "link", "--user", "alice@corp.test", "--platform", "android")
	h.passes(device+": enrolment token", path.Base(link), byCompanionLink)
	h.must("waxseal-agent", "enroll", link, "--platform", "android", "--state", h.path(device), "--ca", h.proxy.CA,
		"--os-version", version, "--management-mode", mode)
	_, secret, _ := strings.Cut(h.companion(device).Enrolment.Credential, ".") // behind the enrolment's id
	h.passes(device+": credential", secret, ofCompanion)
	h.sync(device)
}

// byCompanionLink: the token goes to the admin, and with the app's request to the server.
func byCompanionLink(place string) bool {
	return toAdmin(place) || body(place, "POST "+companionEnrolment+", request")
}

// ofCompanion is the way of an app's credential: once from the server, then with each request.
func ofCompanion(place string) bool {
	return body(place, "POST "+companionEnrolment+", answer 201") || strings.HasPrefix(place, "header ") && strings.Contains(place, " /agent/v1/")
}

// storage is what a companion app keeps for itself.
type storage struct {
	WrapKey   []byte // PKCS#8
	Enrolment struct {
		Credential  string
		Certificate []byte // of the wrap key
	}
}

func (h *house) companion(device string) storage {
	h.t.Helper()
	var state struct{ App storage }
	if err := json.Unmarshal([]byte(h.read(device, "device.json")), &state); err != nil || state.App.Enrolment.Credential == "" {
		h.t.Fatalf("%s is not enrolled (%v)", device, err)
	}
	return state.App
}

// wrapKey is the identity of a phone: what its keys are encrypted to.
func (h *house) wrapKey(device string) opener {
	h.t.Helper()
	app := h.companion(device)
	key, err := x509.ParsePKCS8PrivateKey(app.WrapKey)
	if err != nil {
		h.t.Fatalf("wrap key of the %s: %v", device, err)
	}
	cert, err := x509.ParseCertificate(app.Enrolment.Certificate)
	if err != nil {
		h.t.Fatalf("certificate of the wrap key of the %s: %v", device, err)
	}
	return opener{device, cert, key}
}

// watchEnvelope copies the database when the first key is on its way to a phone.
func (h *house) watchEnvelope() *snapshot {
	return h.watch("envelope", map[string]string{
		"an envelope": "SELECT count(*) FROM documents d JOIN enrolments e ON e.id = d.enrolment_id WHERE e.platform = 'android' AND length(d.payload) > 1000",
	}, func(r *http.Request, body []byte) bool {
		return strings.HasPrefix(r.URL.Path, companionItems) && strings.Contains(string(body), `"envelope"`)
	})
}

// checkEnvelopes: all that was sealed to a phone is the secret of one identity each.
func (h *house) checkEnvelopes(s *scanner) {
	h.t.Helper()
	for _, device := range phones {
		mine := map[string]bool{}
		for _, content := range s.contents[device] {
			var secret struct {
				Format     string `json:"format"`
				CertSHA256 string `json:"cert_sha256"`
			}
			if err := json.Unmarshal([]byte(content), &secret); err != nil || secret.Format != "pkcs8+chain" {
				h.t.Errorf("something else than a key was sealed to %s: %d bytes (%v)", device, len(content), err)
			}
			mine[secret.CertSHA256] = true
		}
		if len(mine) != delivered {
			h.t.Errorf("the keys of %d certificates were sealed to %s, want %d", len(mine), device, delivered)
		}
	}
}
