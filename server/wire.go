package main

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/android"
	"github.com/waxseal/waxseal/platforms/apple"
	"github.com/waxseal/waxseal/platforms/windows"
	"github.com/waxseal/waxseal/platforms/windows/mde"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/admin"
	"github.com/waxseal/waxseal/server/internal/applemdm"
	"github.com/waxseal/waxseal/server/internal/connectorapi"
	"github.com/waxseal/waxseal/server/internal/delivery"
	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/issuance"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/push"
	"github.com/waxseal/waxseal/server/internal/reconcile"
	"github.com/waxseal/waxseal/server/internal/scep"
	"github.com/waxseal/waxseal/server/internal/sender"
	"github.com/waxseal/waxseal/server/internal/status"
	"github.com/waxseal/waxseal/server/internal/web"
	"github.com/waxseal/waxseal/server/internal/windowsmdm"
)

// wire makes the rooms and connects them: whatever is committed wakes who waits for it.
func (s *server) wire(token string) error {
	s.router = web.New(s.routerConfig())
	refusals := web.NewRefusals(s.db, s.Logger, s.Clock)
	s.identity = identity.New(identity.Config{Store: s.db, Jobs: s.db, Users: s.db, Clock: s.Clock, Rand: s.Rand})
	s.push = push.New(push.Config{Store: s.db, Sender: s.sender, Logger: s.Logger, Clock: s.Clock, Observe: s.metrics.pushed})
	s.connectors = connectorapi.New(connectorapi.Config{Store: s.db, Status: s.db, RAKey: s.raKey, Lease: s.Settings.JobLease, PKIURL: s.pkiURL(), CheckRendered: checkRendered,
		Refusals: refusals, Stored: func() { s.identity.Kick(); s.issuance.Kick(); s.push.Kick() }, Clock: s.Clock, Rand: s.Rand, Logger: s.Logger})
	authority := identity.NewAuthority(s.db.DeviceAuthority)
	s.connectors.Routes(s.router)
	from := sender.New(sender.Config{Identity: s.identity, Authority: authority, ProxyHeader: s.Settings.ProxyCertHeader, TrustedProxies: s.proxies, Clock: s.Clock})
	challenger, err := issuance.NewChallenger(s.raKey, s.Rand, s.Clock)
	if err != nil {
		return err
	}
	core := s.delivery(challenger)
	s.apple(core, challenger, authority, from, refusals).Routes(s.router)
	s.windows(core, authority, from, refusals).Routes(s.router)
	s.companions = s.android(core, authority, refusals)
	s.companions.Routes(s.router)
	scep.New(scep.Config{Identity: s.identity, Authority: authority, RAKey: s.raKey, Refusals: refusals,
		Renew: s.renewIdentity(challenger), Issuance: s.issuance, Authorities: s.authorities, Kick: s.connectors.Notify, Logger: s.Logger}).Routes(s.router)
	if err := s.partners(refusals); err != nil {
		return err
	}
	s.router.MountRaw(status.Prefix, status.MaxBody, s.status())
	s.health()
	return s.admin(token, refusals).Register(s.router)
}

// pkiURL is where revocation lists will be found: plain http, so that checking one never needs another certificate (RFC 5280,
// section 8). Certificates carry it from the first day.
func (s *server) pkiURL() string {
	if s.Settings.PKIURL != "" {
		return strings.TrimSuffix(s.Settings.PKIURL, "/")
	}
	u, err := url.Parse(s.fixed.PublicURL)
	if err != nil {
		return ""
	}
	host := u.Hostname()
	if _, port, err := net.SplitHostPort(s.pkiBound); err == nil && port != "80" {
		host = net.JoinHostPort(host, port)
	}
	return "http://" + host + "/pki"
}

func (s *server) routerConfig() web.Config {
	return web.Config{Logger: s.Logger, Clock: s.Clock, Rand: s.Rand, TrustedProxies: s.proxies, Observe: s.metrics.observe}
}

// status serves revocation lists and OCSP answers below the path of the PKI URL, whatever that is.
func (s *server) status() http.Handler {
	base := ""
	if u, err := url.Parse(s.pkiURL()); err == nil {
		base = u.Path
	}
	return status.New(status.Config{Store: s.db, BasePath: base, Clock: s.Clock, Logger: s.Logger})
}

// kick tells long polls and the push worker that something was committed.
func (s *server) kick() {
	s.connectors.Notify()
	s.push.Kick()
}

func (s *server) admin(token string, refusals *web.Refusals) *admin.Service {
	return admin.New(admin.Config{Store: s.db, Links: links{s}, Connectors: s.connectors,
		CheckCustom: func(content []byte) error { return apple.CheckCustom(content, s.fixed.Namespace) },
		Preview:     s.preview,
		Expiring:    s.board().List,
		PushTopic:   s.pushTopic, ConnectorSilence: s.Settings.ConnectorSilence, Kick: s.connectors.Notify, Wake: s.kick, PublicURL: s.fixed.PublicURL, Rand: s.Rand, Token: token, Version: s.Version, Refusals: refusals, Clock: s.Clock, Logger: s.Logger})
}

// planners of every platform.
func planners() map[profiles.Platform]delivery.Planner {
	return map[profiles.Platform]delivery.Planner{profiles.IOS: apple.Plan, profiles.MacOS: apple.Plan, profiles.Windows: windows.Plan,
		profiles.Android: android.Plan}
}

// pcInventoryEvery is less than the time between two sessions of a PC (mde.DefaultPoll), so that each looks at what is
// there: PCs are not woken, and a session is the only chance for days.
const pcInventoryEvery = 5 * time.Minute

// delivery makes the core, and with it who certifies devices' own keys: each needs the other.
func (s *server) delivery(challenger *issuance.Challenger) *delivery.Service {
	mint := func(ctx context.Context, enrolmentID string, names []string) (map[string]string, error) {
		return s.issuance.Mint(ctx, enrolmentID, names)
	}
	core := delivery.New(delivery.Config{Store: s.db, Settings: s.reconcileSettings(), Planners: planners(),
		InventoryEvery: map[profiles.Platform]time.Duration{profiles.Windows: pcInventoryEvery},
		CanDecrypt:     canDecrypt, Mint: mint, Clock: s.Clock, NewUUID: newUUID, Kick: s.kick})
	s.issuance = issuance.New(issuance.Config{Store: s.db, Orders: core, Challenger: challenger, Kick: s.connectors.Notify, Clock: s.Clock})
	return core
}

// authorities are the certificates of a connector's CA, for SCEP clients.
func (s *server) authorities(ctx context.Context, name string) ([]*x509.Certificate, error) {
	cas, err := s.connectors.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	for _, ca := range cas {
		if ca.Name != name {
			continue
		}
		var chain []*x509.Certificate
		for _, der := range append([][]byte{ca.Certificate}, ca.Chain...) {
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				return nil, fmt.Errorf("reading the certificates of CA %s: %w", name, err)
			}
			chain = append(chain, cert)
		}
		return chain, nil
	}
	return nil, fmt.Errorf("CA %s: %w", name, model.ErrNotFound)
}

func (s *server) apple(core *delivery.Service, challenger *issuance.Challenger, authority *identity.Authority, from *sender.Sender, refusals *web.Refusals) *applemdm.Endpoint {
	return applemdm.New(applemdm.Config{Identity: s.identity, Authority: authority, Sender: from, Refusals: refusals, Devices: s.db, Bootstrap: bootstrapTokens{s.db},
		Delivery: &delivery.Apple{Service: core, Sign: s.sign, EnrolmentIdentifier: s.fixed.Namespace + ".enrollment",
			Renewal: s.renewalProfile(challenger), Due: s.due},
		Profile: s.enrolmentProfile, Keep: s.keep, Kick: s.kick, Raise: s.metrics.unparsable, Organization: s.Settings.Organization,
		PushTopic: s.pushTopic, Clock: s.Clock, Logger: s.Logger})
}

func (s *server) reconcileSettings() reconcile.Settings {
	return reconcile.Settings{Organization: s.Settings.Organization, Namespace: s.fixed.Namespace, SCEPURL: s.fixed.PublicURL + "/scep", ConnectorSilence: s.Settings.ConnectorSilence}
}

func newUUID() string { return strings.ToUpper(uuid.NewString()) }

// enrolmentProfile writes the profile that a device enrols with; it is signed only with a configured certificate, since
// a signature that the device cannot trust looks worse than none.
func (s *server) enrolmentProfile(challenge, enrolmentID string) ([]byte, error) {
	p := apple.EnrollmentParams{Namespace: s.fixed.Namespace, Organization: s.Settings.Organization, EnrolmentID: enrolmentID,
		SCEPURL: s.fixed.PublicURL + "/scep", SCEPName: "waxseal", Challenge: challenge, CommonName: enrolmentID, Topic: s.topic(),
		ServerURL: s.fixed.ServerURL, CheckInURL: s.fixed.CheckInURL, AccessRights: s.fixed.AccessRights,
		// Where the device listener asks for certificates, TLS proves the same. A proxy's header may be configured away
		// later, and the device keeps this choice for ever: there it signs.
		SignMessage: s.Settings.DeviceURL == ""}
	if s.ownTLS != nil {
		p.TLSRoots = [][]byte{s.ownTLS.CA().Raw}
	}
	profile, err := apple.EnrollmentProfile(p)
	if err != nil || s.Settings.ProfileSigningCert == "" {
		return profile, err
	}
	return s.sign(profile)
}

// topic is the push certificate's, or the stand-in while there is none.
func (s *server) topic() string {
	if s.pushTopic != "" {
		return s.pushTopic
	}
	return s.fixed.Topic
}

// sign signs a configuration profile.
func (s *server) sign(profile []byte) ([]byte, error) {
	return cms.Sign(profile, s.signer.Certificate, s.signer.Key, cms.SignOptions{Chain: s.signer.Chain})
}

// keep stores a message that could not be parsed, the latest of each enrolment and kind.
func (s *server) keep(ctx context.Context, enrolmentID, kind string, body []byte) error {
	sum := sha256.Sum256(body)
	raw, err := json.Marshal(map[string]any{"at": s.Clock().UTC(), "sha256": hex.EncodeToString(sum[:]), "body": body})
	if err != nil {
		return err
	}
	return s.db.SetSetting(ctx, "unparsed."+kind+"."+enrolmentID, raw)
}

// canDecrypt: documents are encrypted with RSA key transport, which needs RSA and keyEncipherment.
func canDecrypt(der []byte) bool {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return false
	}
	_, isRSA := c.PublicKey.(*rsa.PublicKey)
	return isRSA && c.KeyUsage&x509.KeyUsageKeyEncipherment != 0
}

// checkRendered takes from a connector only the document that was asked for, and only encrypted.
func checkRendered(platform profiles.Platform, doc platforms.Document, payload []byte) error {
	switch platform {
	case profiles.Windows:
		return windows.CheckRendered(doc, payload)
	case profiles.Android:
		return android.CheckRendered(doc, payload)
	}
	p, err := apple.ParseProfile(payload)
	switch {
	case err != nil:
		return err
	case p.Identifier != doc.Identifier || !strings.EqualFold(p.UUID, doc.Proof):
		return fmt.Errorf("it is profile %s %s, asked was %s %s", p.Identifier, p.UUID, doc.Identifier, doc.Proof)
	case !p.IsEncrypted:
		return errors.New("it is not encrypted to the device")
	}
	return nil
}

// links gives enrolment links their URL.
type links struct{ *server }

func (l links) CreateLink(ctx context.Context, user model.User, platform profiles.Platform, life time.Duration) (api.Link, error) {
	token, err := l.identity.CreateLink(ctx, user, platform, life)
	if err != nil {
		return api.Link{}, err
	}
	link := api.Link{URL: l.fixed.PublicURL + "/enroll/" + token, Expires: l.Clock().Add(life)}
	switch {
	case platform == profiles.Windows:
		link.URL, link.Secret = mde.DeepLink(user.UPN, l.fixed.PublicURL+windowsmdm.DiscoveryPath), token
	case platform == profiles.Android && l.google != nil:
		return l.throughGoogle(ctx, link, user, token, life)
	}
	return link, nil
}
