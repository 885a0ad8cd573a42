package windowsmdm

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/waxseal/waxseal/platforms/windows/mde"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

// minKeyBits is asked of every device; the connector takes nothing shorter.
const minKeyBits = 2048

// credential is what a request proved itself with: the secret of an enrolment link beside its user's name (OnPremise),
// or the token of a sign-in (Federated).
type credential struct {
	secret string
	token  string
	// spent: it was used before. That is refused, except that the same key gets the same certificate again.
	spent bool
}

// policies says which key to make (MS-XCEP GetPolicies). It looks at the credential and changes nothing.
func (e *Endpoint) policies(ctx context.Context, req *mde.Request) ([]byte, error) {
	if req.GetPolicies == nil {
		return nil, refuse(mde.MessageFormat, "this address answers GetPolicies")
	}
	cred, err := e.credential(ctx, req.Security)
	if err == nil && cred.spent {
		err = model.ErrSpent
	}
	if err != nil {
		return nil, deadCredential(err)
	}
	// Windows takes the period from the provisioning document, where it may be longer than a certificate's life.
	renewal := min(e.cfg.RenewWindow, e.cfg.Validity-time.Second)
	return mde.PoliciesResponse(req.MessageID, mde.Policy{MinimalKeyLength: minKeyBits, Validity: e.cfg.Validity,
		Renewal: renewal, CryptoProviders: e.cfg.CryptoProviders})
}

// credential checks what the security header carries.
func (e *Endpoint) credential(ctx context.Context, sec mde.Security) (credential, error) {
	switch {
	case sec.HasUsername == sec.HasToken:
		return credential{}, refuse(mde.InvalidSecurity, "the security header must carry one credential: a UsernameToken or a BinarySecurityToken")
	case sec.HasToken:
		return e.bearer(ctx, sec.Tokens())
	case sec.PasswordType != "" && !strings.HasSuffix(sec.PasswordType, "#PasswordText"):
		return credential{}, refuse(mde.InvalidSecurity, "the password must be of the type PasswordText")
	}
	_, err := e.cfg.Identity.Login(ctx, sec.Username, sec.Password)
	if errors.Is(err, model.ErrSpent) {
		return credential{secret: sec.Password, spent: true}, nil
	}
	return credential{secret: sec.Password}, refuseAs(mde.Authentication, err)
}

// bearer finds the sign-in among the readings of a token: it is not certain how often Windows encodes it (windows.md
// section 1.4).
func (e *Endpoint) bearer(ctx context.Context, readings []string) (credential, error) {
	for _, token := range readings {
		c, err := e.cfg.Identity.Challenge(ctx, token)
		switch {
		case errors.Is(err, model.ErrNotFound):
			continue
		case err != nil && !gone(err):
			return credential{}, err
		case !signedIn(c):
			continue
		case errors.Is(err, model.ErrSpent):
			return credential{token: token, spent: true}, nil
		}
		return credential{token: token}, err
	}
	return credential{}, refuse(mde.Authentication, "the sign-in token is not known here; sign in again")
}

// signedIn reports whether a challenge is the token of a sign-in: those of Apple's profiles and of renewals open nothing
// here.
func signedIn(c model.Challenge) bool { return c.Platform == profiles.Windows && c.LinkID != "" }

// deadCredential says what a credential that does not work is, and what to do.
func deadCredential(err error) error {
	switch {
	case errors.Is(err, model.ErrSpent):
		return refuse(mde.Authorization, spentLink)
	case errors.Is(err, model.ErrExpired):
		return refuse(mde.Authorization, expiredLink)
	case errors.Is(err, model.ErrNotFound):
		return refuse(mde.Authentication, "the user name or the enrolment secret is not known here")
	}
	return err
}

const (
	spentLink   = "This enrolment secret was used by a device already. It works for one device; ask your administrator for a new one."
	expiredLink = "This enrolment secret or sign-in has expired. Sign in again, or ask your administrator for a new secret."
)
