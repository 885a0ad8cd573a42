package softca

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"testing"

	"github.com/waxseal/waxseal/internal/link"
)

// sparing sends shared CAs once, as the real server does: not to who says that it has received them.
type sparing struct{ end }

func (s sparing) Status(ctx context.Context, in link.StatusRequest) (link.StatusResponse, error) {
	out, err := s.end.Status(ctx, in)
	if sum := sha256.Sum256(out.SealedCAs); hex.EncodeToString(sum[:]) == in.Received {
		out.SealedCAs = nil
	}
	return out, err
}

// TestReceivedOnceTheyAreKept: CAs that could not be written (a full disk) come again.
func TestReceivedOnceTheyAreKept(t *testing.T) {
	w := newWorld(t)
	a := w.first()
	b := w.further(a)
	b.Server = sparing{b.Server.(end)}
	_, err := a.k.RollSMIME()
	w.ok(err)
	a.round()
	inTheWay := b.k.Path("softca-2.key")
	w.ok(os.MkdirAll(inTheWay+"/full", 0o700))
	b.round()
	w.ok(os.RemoveAll(inTheWay))
	b.round()
	if f, err := b.k.SMIME(); err != nil || len(f.Issuing) != 2 {
		t.Errorf("%d issuing CAs, %v", len(f.Issuing), err)
	}
}

// meanwhile has something happen while a message is under way.
type meanwhile struct {
	end
	do *func()
}

func (m meanwhile) Status(ctx context.Context, in link.StatusRequest) (link.StatusResponse, error) {
	out, err := m.end.Status(ctx, in)
	if do := *m.do; do != nil {
		*m.do = nil
		do()
	}
	return out, err
}

// TestRolledMeanwhile: a CA that ca roll makes while others are being shared is shared, too.
func TestRolledMeanwhile(t *testing.T) {
	w := newWorld(t)
	a := w.first()
	b := w.further(a)
	roll := func() {
		_, err := a.k.RollSMIME()
		w.ok(err)
	}
	a.Server = meanwhile{a.Server.(end), &roll}
	a.round()
	a.round()
	b.round()
	if f, err := b.k.SMIME(); err != nil || len(f.Issuing) != 2 {
		t.Errorf("%d issuing CAs, %v", len(f.Issuing), err)
	}
}
