package csp

import (
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

// request are the commands of a SCEP delivery.
func request(id string) []syncml.Command {
	at := userSCEP + "/" + id + "/Install/"
	return []syncml.Command{
		add(at+"ServerURL", "chr", "https://a.example.test/scep;https://b.example.test/scep"),
		add(at+"Challenge", "chr", "secret"),
		add(at+"EKUMapping", "chr", "1.3.6.1.5.5.7.3.4+1.3.6.1.5.5.7.3.2"),
		add(at+"KeyUsage", "int", "128"),
		add(at+"SubjectName", "chr", `CN=Ann,E="a+b@example.test"`),
		add(at+"SubjectAlternativeNames", "chr", "2+ann@example.test;11+ann@example.test"),
		add(at+"KeyLength", "int", "2048"),
		add(at+"HashAlgorithm", "chr", "SHA-2"),
		add(at+"CAThumbprint", "chr", "00112233445566778899AABBCCDDEEFF00112233"),
		command(syncml.Exec, at+"Enroll", "null", ""),
	}
}

func TestSCEP(t *testing.T) {
	f := modern(t)
	id := userSCEP + "/S1"
	a := f.want("200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 202", atomic(request("S1")...))
	if len(a.effects.SCEP) != 1 || a.effects.SCEP[0] != id {
		t.Fatalf("effects are %+v", a.effects)
	}
	f.wantValue(id+"/Status", "2")
	f.wantValue(id+"/CertThumbprint", "[404 0x86000002]")
	r, ok := f.SCEPInstall(id)
	if !ok || len(r.Servers) != 2 || r.Challenge != "secret" || r.KeyLength != 2048 || r.KeyProtection != "3" || r.RetryCount != 3 {
		t.Errorf("the request is %+v, %v", r, ok)
	}
	ann := f.identity("Ann", testpki.Options{})
	f.SCEPDone(id, ann.Cert, ann.Key, nil)
	f.wantValue(id+"/Status", "1")
	f.wantValue(id+"/CertThumbprint", thumbprint(ann.Cert))
	f.wantValue(id+"/RespondentServerUrl", "https://a.example.test/scep")
	wantStore(t, f.PC, "User/My", "S1:Ann:true")
	if _, ok := f.SCEPInstall(id); ok {
		t.Error("the finished request waits still")
	}
	if challenge, _ := f.Value(id + "/Install/Challenge"); challenge != "" {
		t.Error("the challenge is kept")
	}
	f.want("200", del(id))
	wantStore(t, f.PC, "User/My")
	f.SCEPDone(id, ann.Cert, ann.Key, nil) // too late
	wantStore(t, f.PC, "User/My")
}

func TestSCEPFails(t *testing.T) {
	f := modern(t)
	f.do(atomic(request("S1")...))
	f.SCEPDone(userSCEP+"/S1", nil, nil, errTest)
	f.wantValue(userSCEP+"/S1/Status", "16")
	f.wantValue(userSCEP+"/S1/ErrorCode", "-2147467259")
}

func TestSCEPThumbprintOfExpired(t *testing.T) {
	f := modern(t)
	f.do(atomic(request("S1")...))
	ann := f.identity("Ann", testpki.Options{NotAfter: testpki.Now().Add(time.Hour)})
	f.SCEPDone(userSCEP+"/S1", ann.Cert, ann.Key, nil)
	f.wantValue(userSCEP+"/S1/CertThumbprint", thumbprint(ann.Cert))
	later := f.config("10.0.22631.1", Rules{})
	later.Now = func() time.Time { return testpki.Now().Add(2 * time.Hour) }
	f.Configure(later)
	f.wantValue(userSCEP+"/S1/CertThumbprint", "")
	f.wantValue(userSCEP+"/S1/Status", "1")
}

func TestSCEPRefused(t *testing.T) {
	at := userSCEP + "/S1/Install/"
	all := request("S1")
	for _, missing := range []int{0, 1, 2, 3, 4, 6, 7, 8} {
		some := append(append([]syncml.Command{}, all[:missing]...), all[missing+1:]...)
		f := modern(t)
		a := f.do(atomic(some...))
		if a.statuses["1"] != "507 0x80070057" || len(a.effects.SCEP) > 0 {
			t.Errorf("without %s the Atomic gets %s", all[missing].Items[0].Target, a.statuses["1"])
		}
	}
	for _, bad := range []syncml.Command{
		add(at+"KeyUsage", "int", "64"), add(at+"KeyUsage", "int", "-1"), add(at+"KeyLength", "int", "3072"),
		add(at+"HashAlgorithm", "chr", "MD5"), add(at+"EKUMapping", "chr", "1.2,3.4"), add(at+"CAThumbprint", "chr", "00 11"),
		add(at+"RetryCount", "int", "31"), add(at+"RetryDelay", "int", "0"), add(at+"ValidPeriod", "chr", "Weeks"),
		add(at+"SubjectAlternativeNames", "chr", "ann@example.test"),
	} {
		modern(t).want("415 0x86000001", bad)
	}
	hello := append([]syncml.Command{add(at+"KeyProtection", "int", "4")}, all...)
	if a := modern(t).do(atomic(hello...)); a.statuses["1"] != "507 0x80070057" {
		t.Errorf("Hello without a container gets %s", a.statuses["1"])
	}
	newFixture(t, "10.0.22631.1", Rules{OutsideAtomic: 500}).want("500 0x86000004", all[9])
}
