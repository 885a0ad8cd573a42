package csp

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/pfx"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

func TestTrust(t *testing.T) {
	f := modern(t)
	encoded := encodeBase64(f.ca.Cert.Raw)
	hash := thumbprint(f.ca.Cert)
	node := rootStore + "/" + hash
	lines := encoded[:64] + "\r\n" + encoded[64:]
	f.want("415 0x86000001, 415 0x86000001, 415 0x86000001, 400 0x80070057, 500 0x8009310B, 404 0x86000002",
		add(node+"/EncodedCertificate", "b64", lines), add(node+"/EncodedCertificate", "b64", "%%"),
		add(node+"/EncodedCertificate", "chr", encoded), add(rootStore+"/00/EncodedCertificate", "b64", encoded),
		add(node+"/EncodedCertificate", "b64", "MAA="), replace(node+"/EncodedCertificate", "b64", encoded))
	wantStore(t, f.PC, "Device/Root")
	f.want("200, 418 0x800700B7, 200", add(rootStore+"/"+strings.ToLower(hash)+"/EncodedCertificate", "b64", encoded),
		add(node+"/EncodedCertificate", "b64", encoded), replace(node+"/EncodedCertificate", "bin", encoded))
	wantStore(t, f.PC, "Device/Root", hash+":Example CA:false")
	f.wantValue(rootStore, hash)
	f.wantValue(node, "EncodedCertificate/IssuedBy/IssuedTo/TemplateName/ValidFrom/ValidTo")
	f.wantValue(node+"/EncodedCertificate", encoded)
	f.wantValue(node+"/IssuedTo", "Example CA")
	f.wantValue(node+"/ValidTo", "2036-03-02T09:30:00Z")
	f.want("200, 404 0x86000002", del(node), del(node))
	wantStore(t, f.PC, "Device/Root")
}

// TestStoresAreSeenTwice: CertificateStore and RootCATrustedCertificates show the same certificates, whoever brought them.
func TestStoresAreSeenTwice(t *testing.T) {
	f := modern(t)
	sub := f.ca.Intermediate(t, "Issuing CA")
	f.AddProvisioned("Device/Root", f.ca.Cert)
	f.AddProvisioned("Device/Root", f.ca.Cert)
	f.AddProvisioned("User/My", f.mdm.Cert)
	const store = "./Vendor/MSFT/CertificateStore/"
	f.want("200", add(store+"CA/System/"+thumbprint(sub.Cert)+"/EncodedCertificate", "b64", encodeBase64(sub.Cert.Raw)))
	f.wantValue("./Device/Vendor/MSFT/RootCATrustedCertificates/CA", thumbprint(sub.Cert))
	f.wantValue(rootStore, thumbprint(f.ca.Cert))
	f.wantValue(store+"ROOT/System", thumbprint(f.ca.Cert))
	f.wantValue(store+"ROOT/"+thumbprint(f.ca.Cert)+"/IssuedBy", "Example CA")
	f.wantValue(store+"MY/User", thumbprint(f.mdm.Cert))
	f.wantValue(store+"MY/WSTEP/CertThumprint", thumbprint(f.mdm.Cert))
	f.wantValue(store+"MY/WSTEP/Renew/RenewPeriod", "42")
	f.want("200, 200", atomic(replace(store+"MY/WSTEP/Renew/RenewPeriod", "int", "60")))
	f.wantValue(store+"MY/WSTEP/Renew/RenewPeriod", "60")
	if a := f.do(exec(store+"MY/WSTEP/Renew/RenewNow", "")); !a.effects.Renew {
		t.Error("RenewNow has no effect")
	}
	f.want("200", del(rootStore+"/"+thumbprint(f.ca.Cert)))
	f.wantValue(store+"ROOT/System", "")
}

func TestUserDeletes(t *testing.T) {
	for _, keep := range []bool{false, true} {
		f := newFixture(t, "10.0.22631.1", Rules{KeepNode: keep})
		ann := f.identity("Ann", testpki.Options{})
		f.want(allDone, atomic(nodes(syncml.Add, "A1", "secret", "0", f.pfx(ann, "secret", pfx.LegacyDES))...))
		sum := sha256.Sum256(ann.Cert.Raw)
		if err := f.DeleteCertificate(hex.EncodeToString(sum[:])); err != nil {
			t.Fatal(err)
		}
		wantStore(t, f.PC, "User/My")
		want := map[bool]string{false: "[404 0x86000002]", true: thumbprint(ann.Cert)}
		f.wantValue(userPFX+"/A1/Thumbprint", want[keep])
		if err := f.DeleteCertificate(thumbprint(ann.Cert)); err == nil || !strings.Contains(err.Error(), "SHA-1 or SHA-256") {
			t.Errorf("deleting it again: %v", err)
		}
	}
}

// TestSameCertificateTwice: two nodes hold one certificate, which stays until both are gone.
func TestSameCertificateTwice(t *testing.T) {
	f := modern(t)
	ann := f.identity("Ann", testpki.Options{})
	blob := f.pfx(ann, "secret", pfx.LegacyDES)
	f.want(allDone+", "+allDone, atomic(nodes(syncml.Add, "A1", "secret", "0", blob)...), atomic(nodes(syncml.Add, "A2", "secret", "0", blob)...))
	wantStore(t, f.PC, "User/My", "A1:Ann:true")
	f.do(del(userPFX + "/A1"))
	wantStore(t, f.PC, "User/My", "A2:Ann:true")
	f.do(del(userPFX + "/A2"))
	wantStore(t, f.PC, "User/My")
}
