package storetest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/connectorapi"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/status"
)

// Statuses is what the server keeps of softca's certificates.
type Statuses interface {
	connectorapi.StatusStore
	status.Store
}

func statusClasses() []class {
	return []class{
		{"status/lists", keepsLists}, {"status/answers", keepsAnswers}, {"status/learned", tellsOthers}, {"status/pages", tellsInPages},
		{"status/due", asksAnew}, {"status/lacks", tellsLacks}, {"status/review", reviews}, {"status/shared", handsOver},
	}
}

// two are the connectors of a key set.
func (f *fixture) two() (a, b model.Connector) {
	f.Helper()
	a = f.connector("m1")
	f.publish(a, link.PublishRequest{KeySet: keySet(1, member("m1"))})
	b = f.connector("m2")
	f.publish(a, link.PublishRequest{KeySet: keySet(2, member("m1"), member("m2"))})
	return get(f.ConnectorByID(f.ctx, a.ID))(f), get(f.ConnectorByID(f.ctx, b.ID))(f)
}

func (f *fixture) exchange(c model.Connector, x connectorapi.StatusExchange) link.StatusResponse {
	f.Helper()
	x.Connector, x.Now = c, f.now
	return get(f.ExchangeStatus(f.ctx, x))(f)
}

// signed is an answer that is made now.
func (f *fixture) signed(serial string, revoked bool) model.CAAnswer {
	return model.CAAnswer{CA: "softca", Serial: serial, Revoked: revoked, NotAfter: f.now.AddDate(1, 0, 0), ThisUpdate: f.now,
		NextUpdate: f.now.AddDate(0, 0, 4), SHA1: []byte("sha1 " + serial), SHA256: []byte(fmt.Sprint("sha256 ", serial, revoked))}
}

func (f *fixture) signs(c model.Connector, all ...model.CAAnswer) link.StatusResponse {
	f.Helper()
	return f.exchange(c, connectorapi.StatusExchange{Answers: all})
}

func since(cursor int64) connectorapi.StatusExchange {
	return connectorapi.StatusExchange{Request: link.StatusRequest{Cursor: cursor}}
}

// keepsLists: a list takes the place of one with a lower number, and none is taken that lacks a revocation.
func keepsLists(_ *testing.T, f *fixture) {
	a, b := f.two()
	list := func(content string, number int64) model.CAFile {
		return model.CAFile{Name: "crl/softca.crl", Content: []byte(content), Number: number}
	}
	send := func(c model.Connector, cursor int64, files ...model.CAFile) link.StatusResponse {
		x := since(cursor)
		x.Files = files
		return f.exchange(c, x)
	}
	_, err := f.CAFile(f.ctx, "crl/softca.crl")
	f.is(err, model.ErrNotFound)
	out := send(a, 0, list("one", 10), model.CAFile{Name: "aia/softca.cer", Content: []byte("ca")})
	equal(f, "number", out.CRLNumber, 10)
	equal(f, "certificate", string(get(f.CAFile(f.ctx, "aia/softca.cer"))(f).Content), "ca")
	equal(f, "highest number", send(b, 0, list("older", 9)).CRLNumber, 10)
	equal(f, "the newer stays", string(get(f.CAFile(f.ctx, "crl/softca.crl"))(f).Content), "one")
	cursor := f.signs(a, f.signed("1a", true)).Cursor
	out = send(b, 0, list("without it", 11))
	equal(f, "stale", out.Stale, true)
	equal(f, "the complete one stays", string(get(f.CAFile(f.ctx, "crl/softca.crl"))(f).Content), "one")
	equal(f, "with it", send(b, cursor, list("with it", 11)).Stale, false)
	equal(f, "taken", string(get(f.CAFile(f.ctx, "crl/softca.crl"))(f).Content), "with it")
}

// keepsAnswers: the newest counts, and nothing takes a revocation back.
func keepsAnswers(_ *testing.T, f *fixture) {
	a, b := f.two()
	stored := func() string { return string(get(f.CAAnswer(f.ctx, "softca", "1a"))(f).SHA256) }
	_, err := f.CAAnswer(f.ctx, "softca", "1a")
	f.is(err, model.ErrNotFound)
	good := f.signed("1a", false)
	f.signs(a, good)
	f.now = f.now.Add(time.Hour)
	f.signs(b, f.signed("1a", false))
	newest := get(f.CAAnswer(f.ctx, "softca", "1a"))(f)
	equal(f, "the newest", newest.ThisUpdate.Equal(f.now), true)
	f.signs(a, good)
	same(f, "an old one", get(f.CAAnswer(f.ctx, "softca", "1a"))(f), newest)
	revoked := f.signed("1a", true)
	revoked.ThisUpdate = f.now.Add(-30 * time.Minute) // made before the newest, but it says more
	f.signs(b, revoked)
	equal(f, "revoked", stored(), "sha256 1atrue")
	f.now = f.now.Add(time.Hour)
	f.signs(a, f.signed("1a", false))
	equal(f, "not taken back", stored(), "sha256 1atrue")
	_, err = f.CAAnswer(f.ctx, "softca-2", "1a")
	f.is(err, model.ErrNotFound)
}

// tellsOthers: each learns what others issued, and every revocation, once.
func tellsOthers(_ *testing.T, f *fixture) {
	a, b := f.two()
	cursor := f.signs(a, f.signed("1a", false), f.signed("1b", false)).Cursor
	equal(f, "own ones", len(f.exchange(a, since(0)).Learned), 0)
	out := f.exchange(b, since(0))
	equal(f, "of the other", len(out.Learned), 2)
	equal(f, "in order", out.Learned[0].Serial+out.Learned[1].Serial, "1a1b")
	equal(f, "what the other signed", string(out.Learned[0].SHA256), "sha256 1afalse")
	equal(f, "cursor", out.Cursor, cursor)
	equal(f, "again", len(f.exchange(b, since(out.Cursor)).Learned), 0)
	f.now = f.now.Add(24 * time.Hour)
	f.signs(a, f.signed("1a", false))
	equal(f, "made anew, nothing new", len(f.exchange(b, since(out.Cursor)).Learned), 0)
	f.signs(b, f.signed("1a", true))
	equal(f, "its own revocation too, for a keyring that lost it", len(f.exchange(b, since(0)).Learned), 2)
	out = f.exchange(a, since(cursor))
	equal(f, "revoked by the other", out.Learned[0].Revoked, true)
	equal(f, "a cursor of before the backup", len(f.exchange(b, since(1000)).Learned), 2)
}

func tellsInPages(_ *testing.T, f *fixture) {
	a, b := f.two()
	const n = link.MaxStatus + 3
	for from := 0; from < n; from += link.MaxStatus {
		var page []model.CAAnswer
		for i := from; i < min(from+link.MaxStatus, n); i++ {
			page = append(page, f.signed(fmt.Sprintf("%x", i+1), false))
		}
		f.signs(a, page...)
	}
	first := f.exchange(b, since(0))
	equal(f, "a page", len(first.Learned), link.MaxStatus)
	equal(f, "more", first.More, true)
	second := f.exchange(b, since(first.Cursor))
	equal(f, "the rest", len(second.Learned), 3)
	equal(f, "no more", second.More, false)
}

// asksAnew: an answer is due after a day, to one connector at a time, and not after the certificate's end.
func asksAnew(_ *testing.T, f *fixture) {
	a, b := f.two()
	ended := f.signed("1b", false)
	ended.NotAfter = f.now.Add(time.Hour)
	f.signs(a, f.signed("1a", false), ended)
	equal(f, "today", len(f.exchange(a, since(0)).Due), 0)
	f.now = f.now.Add(24 * time.Hour)
	due := f.exchange(b, since(0)).Due
	equal(f, "tomorrow", len(due), 1)
	equal(f, "which", due[0].Serial, "1a")
	equal(f, "the other connector", len(f.exchange(a, since(0)).Due), 0)
	f.now = f.now.Add(11 * time.Minute)
	equal(f, "nothing came", len(f.exchange(a, since(0)).Due), 1)
	f.signs(a, f.signed("1a", false))
	f.now = f.now.Add(12 * time.Hour)
	equal(f, "made anew", len(f.exchange(a, since(0)).Due), 0)
}

func tellsLacks(_ *testing.T, f *fixture) {
	a, _ := f.two()
	f.signs(a, f.signed("1a", false), f.signed("1b", false), f.signed("1c", true))
	have := func(serial string, revoked bool) link.StatusHave {
		return link.StatusHave{CA: "softca", Serial: serial, Revoked: revoked}
	}
	out := f.exchange(a, connectorapi.StatusExchange{Request: link.StatusRequest{
		Have: []link.StatusHave{have("1a", false), have("1b", true), have("1c", false), have("1d", false)}}})
	same(f, "lacks", out.Lacks, []link.StatusHave{have("1b", true), have("1d", false)})
}

// reviews: a revocation that a connector confirmed and that no answer shows after a while.
func reviews(_ *testing.T, f *fixture) {
	a, _ := f.two()
	u := f.user("a@x.example")
	e := f.enrol(u, a, "UDID")
	done, sha := f.issued(e, f.ask(e, a, "intent-000000000001"), "intent-000000000001", profiles.EventUnenroll)
	done.Issued.Certificate.CA = "softca"
	f.ok(f.Complete(f.ctx, done))
	f.ok(f.CheckOut(f.ctx, e.ID, model.RemovalReported, "unenroll", f.now, f.audit("device.unenrol")))
	revoked := f.completion(f.claim(a))
	revoked.Revoked = &connectorapi.RevokedEffect{CertSHA256: sha, At: f.now}
	f.ok(f.Complete(f.ctx, revoked))
	review := connectorapi.StatusExchange{Request: link.StatusRequest{Review: true}}
	equal(f, "at once", len(f.exchange(a, review).Revoked), 0)
	f.now = f.now.Add(time.Hour)
	found := f.exchange(a, review).Revoked
	equal(f, "after a while", len(found), 1)
	equal(f, "which", string(found[0].Certificate), string(f.certificateBySHA(sha).DER))
	equal(f, "unasked", len(f.exchange(a, since(0)).Revoked), 0)
	f.signs(a, f.signed(f.certificateBySHA(sha).Serial, true))
	equal(f, "when an answer shows it", len(f.exchange(a, review).Revoked), 0)
}

// handsOver: CA keys go to the connector that they are sealed to, until it says that it has them.
func handsOver(_ *testing.T, f *fixture) {
	a, b := f.two()
	share := func(sealed string) {
		f.exchange(a, connectorapi.StatusExchange{Request: link.StatusRequest{Shared: map[string][]byte{"m2": []byte(sealed), "gone": []byte("x")}}})
	}
	received := func(sealed string) connectorapi.StatusExchange {
		sum := sha256.Sum256([]byte(sealed))
		return connectorapi.StatusExchange{Request: link.StatusRequest{Received: hex.EncodeToString(sum[:])}}
	}
	equal(f, "nothing", string(f.exchange(b, since(0)).SealedCAs), "")
	share("one")
	equal(f, "sealed to it", string(f.exchange(b, since(0)).SealedCAs), "one")
	equal(f, "not to another", string(f.exchange(a, since(0)).SealedCAs), "")
	equal(f, "it has them", string(f.exchange(b, received("one")).SealedCAs), "")
	share("two")
	equal(f, "the next", string(f.exchange(b, received("one")).SealedCAs), "two")
}
