package connectorapi

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

const maxCAs = 64

// publish stores what a trusted connector offers and answers with what the server lacks. A pending one stores nothing
// and learns only whether CA keys were sealed to it.
func (s *Service) publish(w http.ResponseWriter, r *http.Request, c model.Connector) error {
	var in link.PublishRequest
	if err := readJSON(r, &in); err != nil {
		return err
	}
	if c.State != model.ConnectorTrusted {
		return writeJSON(w, link.PublishResponse{SealedCAs: c.SealedCAs, PKIURL: s.cfg.PKIURL})
	}
	trust, err := s.cfg.Store.Trust(r.Context())
	if err != nil {
		return err
	}
	if err := s.checkPublish(in, trust); err != nil {
		return s.refusePublish(r.Context(), c, err)
	}
	err = s.cfg.Store.Publish(r.Context(), c.ID, in, s.cfg.Clock(), s.entry("connector "+c.ID, "connector.publish", "connector "+c.ID, publishDetail(in)))
	if errors.Is(err, model.ErrConflict) {
		return s.refusePublish(r.Context(), c, errors.New("another device CA or a newer key set is stored already"))
	}
	if err != nil {
		return err
	}
	s.stored()
	return s.answerPublish(w, r, c.ID)
}

func (s *Service) answerPublish(w http.ResponseWriter, r *http.Request, id string) error {
	c, err := s.cfg.Store.ConnectorByID(r.Context(), id)
	if err != nil {
		return err
	}
	trust, err := s.cfg.Store.Trust(r.Context())
	if err != nil {
		return err
	}
	out := link.PublishResponse{SealedCAs: c.SealedCAs, PKIURL: s.cfg.PKIURL}
	if len(trust.DeviceCA) > 0 && s.CheckRA(trust) != nil {
		if out.RACSR, err = s.raRequest(); err != nil {
			return err
		}
	}
	return writeJSON(w, out)
}

// refusePublish audits a refusal; why names nothing secret.
func (s *Service) refusePublish(ctx context.Context, c model.Connector, why error) error {
	e := s.entry("connector "+c.ID, "connector.publish", "connector "+c.ID, map[string]string{"reason": why.Error()})
	e.Outcome = "refused"
	s.audit(ctx, e)
	return web.Errorf(http.StatusConflict, "what the connector publishes is refused: %w", why)
}

func publishDetail(in link.PublishRequest) map[string]string {
	d := map[string]string{"cas": fmt.Sprint(len(in.CAs))}
	if in.KeySet != nil {
		if set, err := in.KeySet.Verify(escrow.Fingerprint(in.KeySet.Root), 0); err == nil {
			d["keySetSerial"] = fmt.Sprint(set.Serial)
		}
	}
	if len(in.SealedCAs) > 0 {
		d["sealedCAs"] = fmt.Sprint(len(in.SealedCAs))
	}
	return d
}

func (s *Service) checkPublish(in link.PublishRequest, trust Trust) error {
	if err := s.checkDeviceCA(in.DeviceCA, trust); err != nil {
		return err
	}
	if len(in.CAs) > maxCAs {
		return fmt.Errorf("%d CAs: at most %d are allowed", len(in.CAs), maxCAs)
	}
	for _, ca := range in.CAs {
		if err := checkCA(ca); err != nil {
			return err
		}
	}
	if err := checkKeySet(in.KeySet, trust.KeySet); err != nil {
		return err
	}
	if len(in.RACertificate) == 0 {
		return nil
	}
	offered := Trust{DeviceCA: in.DeviceCA, RACertificate: in.RACertificate}
	if len(offered.DeviceCA) == 0 {
		offered.DeviceCA = trust.DeviceCA
	}
	return s.CheckRA(offered)
}

// checkDeviceCA wants an RSA CA, since devices encrypt to it and decrypt with what it certifies; once set it never changes.
func (s *Service) checkDeviceCA(der []byte, trust Trust) error {
	if len(der) == 0 {
		return nil
	}
	if len(trust.DeviceCA) > 0 && !bytes.Equal(der, trust.DeviceCA) {
		return errors.New("deviceCA: another device CA is stored, and enrolled devices know only that one; approve this connector beside a trusted keyring")
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("deviceCA: %w", err)
	}
	if _, ok := c.PublicKey.(*rsa.PublicKey); !ok || !c.IsCA {
		return errors.New("deviceCA: it must be a CA certificate with an RSA key")
	}
	return nil
}

func checkCA(ca link.CA) error {
	if ca.Name == "" || len(ca.Name) > 128 {
		return fmt.Errorf("cas: a name has 1 to 128 bytes, %q has %d", ca.Name, len(ca.Name))
	}
	for _, der := range append([][]byte{ca.Certificate}, ca.Chain...) {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("cas: %s: %w", ca.Name, err)
		}
		if !c.IsCA {
			return fmt.Errorf("cas: %s: %q is no CA certificate", ca.Name, c.Subject)
		}
	}
	return nil
}

// checkKeySet wants a set that its root signed, and the root never changes. The server does not decide whom to trust: it
// only keeps a broken set from replacing a good one.
func checkKeySet(set, stored *escrow.SignedKeySet) error {
	if set == nil {
		return nil
	}
	if _, err := set.Verify(escrow.Fingerprint(set.Root), 0); err != nil {
		return fmt.Errorf("keySet: %w", err)
	}
	if stored != nil && !bytes.Equal(stored.Root, set.Root) {
		return fmt.Errorf("keySet: it is signed by escrow root %s, the stored one by %s", escrow.Fingerprint(set.Root), escrow.Fingerprint(stored.Root))
	}
	return nil
}

// CheckRA tells whether there is an RA certificate of the device CA for this server's key that is valid for a while yet.
func (s *Service) CheckRA(trust Trust) error {
	if len(trust.RACertificate) == 0 || len(trust.DeviceCA) == 0 {
		return errors.New("no connector has issued the server's SCEP RA certificate yet")
	}
	ra, err := x509.ParseCertificate(trust.RACertificate)
	if err != nil {
		return fmt.Errorf("raCertificate: %w", err)
	}
	ca, err := x509.ParseCertificate(trust.DeviceCA)
	if err != nil {
		return fmt.Errorf("deviceCA: %w", err)
	}
	if err := ra.CheckSignatureFrom(ca); err != nil {
		return fmt.Errorf("raCertificate: it is not issued by the device CA: %w", err)
	}
	if !samePublicKey(ra.PublicKey, s.cfg.RAKey.Public()) {
		return errors.New("raCertificate: it is for another key than this server's")
	}
	if now := s.cfg.Clock(); now.After(ra.NotAfter.Add(-renewRA)) {
		return fmt.Errorf("raCertificate: it ends on %s", ra.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

func (s *Service) raRequest() ([]byte, error) {
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Waxseal SCEP RA"}}
	der, err := x509.CreateCertificateRequest(s.cfg.Rand, template, s.cfg.RAKey)
	if err != nil {
		return nil, fmt.Errorf("making the RA certificate request: %w", err)
	}
	return der, nil
}

func samePublicKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}
