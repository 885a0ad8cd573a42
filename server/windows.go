package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/waxseal/waxseal/platforms/windows/mde"
	"github.com/waxseal/waxseal/server/internal/delivery"
	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/sender"
	"github.com/waxseal/waxseal/server/internal/web"
	"github.com/waxseal/waxseal/server/internal/windowsmdm"
)

// providerID is what PCs call this server; a PC has one management server, so it need not be unique.
const providerID = "Waxseal"

// renewRetryDays is how often a PC tries to renew its certificate (windows.md section 1.8).
const renewRetryDays = 4

func (s *server) windows(core *delivery.Service, authority *identity.Authority, from *sender.Sender, refusals *web.Refusals) *windowsmdm.Endpoint {
	status := http.StatusOK
	if s.Settings.Windows.FaultStatus != 0 {
		status = s.Settings.Windows.FaultStatus
	}
	return windowsmdm.New(windowsmdm.Config{
		Identity: s.identity, Authority: authority, Sender: from, Refusals: refusals, Devices: s.db, Users: s.db, Sessions: s.db,
		Delivery: &delivery.Windows{Service: core, ProviderID: providerID}, ProviderID: providerID,
		URL: func() string { return s.fixed.PublicURL }, Provision: s.provision(authority),
		AuthPolicy: s.Settings.Windows.Policy(), AppRUs: s.Settings.Windows.AppRUs, CryptoProviders: s.Settings.Windows.CryptoProviders,
		RenewWindow: time.Duration(s.Settings.Windows.RenewDays) * day, FaultStatus: status, LowerCaseFaults: s.Settings.Windows.LowerCaseFaults,
		Kick: s.connectors.Notify, Organization: s.Settings.Organization, Clock: s.Clock, Rand: s.Rand, Logger: s.Logger})
}

// provision fills in the document by which a PC sets itself up. The two digest secrets are random and forgotten: Windows
// wants them, and the certificate of the PC is what proves it.
func (s *server) provision(authority *identity.Authority) func(context.Context, model.Enrolment, []byte, string, model.User) (mde.ProvisioningDocument, error) {
	return func(ctx context.Context, enr model.Enrolment, certificate []byte, store string, user model.User) (mde.ProvisioningDocument, error) {
		ca, err := authority.DeviceCA(ctx)
		if err != nil {
			return mde.ProvisioningDocument{}, err
		}
		p := mde.ProvisioningDocument{Roots: [][]byte{ca.Raw}, Client: certificate, Store: store, ProviderID: providerID,
			Name: s.Settings.Organization, Address: s.managementURL(), UPN: user.UPN, EntDMID: enr.ID, ServerName: providerID,
			Renew:                 &mde.Renewal{Period: s.Settings.Windows.RenewDays, Retry: min(renewRetryDays, s.Settings.Windows.RenewDays), ROBO: true},
			RequireMessageSigning: s.Settings.Windows.MessageSigning}
		return p, s.fillSecrets(&p)
	}
}

func (s *server) fillSecrets(p *mde.ProvisioningDocument) error {
	var b [4][16]byte
	for i := range b {
		if _, err := io.ReadFull(s.Rand, b[i][:]); err != nil {
			return fmt.Errorf("making the secrets of a provisioning document: %w", err)
		}
	}
	text := base64.RawURLEncoding.EncodeToString
	p.ClientSecret, p.ServerSecret, p.ClientNonce, p.ServerNonce = text(b[0][:]), text(b[1][:]), b[2][:], b[3][:]
	return nil
}

// managementURL is where enrolled PCs speak: the listener for devices, if there is one.
func (s *server) managementURL() string {
	base := s.fixed.PublicURL
	if s.Settings.DeviceURL != "" {
		base = strings.TrimSuffix(s.Settings.DeviceURL, "/")
	}
	return base + windowsmdm.ManagementPath
}
