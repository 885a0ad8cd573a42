package admin

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

func (s *Service) registerDevices(h huma.API) {
	handle(s, h, operation("list-devices", http.MethodGet, "/devices", "List devices"), s.devices)
	handle(s, h, operation("explain-device", http.MethodGet, "/devices/{id}/explain", "Say what should be on a device, what is there, and why not"), s.explain)
	handle(s, h, operation("retire-device", http.MethodPost, "/devices/{id}/retire", "Take off a device what was delivered, the enrolment last"), s.retire)
	handle(s, h, operation("wipe-device", http.MethodPost, "/devices/{id}/wipe", "Erase a device"), s.wipe)
	handle(s, h, operation("sync-device", http.MethodPost, "/devices/{id}/sync", "Plan and inventory a device again at its next check-in"), s.sync)
	handle(s, h, operation("list-certificates", http.MethodGet, "/certificates", "List certificates"), s.certificates)
}

type deviceInput struct {
	ID string `path:"id" maxLength:"128"`
}

func deviceOf(d model.Device, upn string) api.Device {
	return api.Device{ID: d.ID, User: upn, UserID: d.UserID, Platform: d.Platform, ExternalID: d.ExternalID, Name: d.Name, Model: d.Model,
		OSVersion: d.OSVersion, SerialNumber: d.SerialNumber, State: string(d.State), Removal: string(d.Removal),
		CreatedAt: d.CreatedAt, StateAt: d.StateAt, LastSeen: d.LastSeen}
}

func (s *Service) devices(ctx context.Context, in *pageInput) (*body[api.Page[api.Device]], error) {
	devices, err := s.Store.Devices(ctx, in.page())
	if err != nil {
		return nil, err
	}
	names := s.upns()
	for _, d := range devices {
		if err := names.load(ctx, d.UserID); err != nil {
			return nil, err
		}
	}
	return pageOf(in, devices, deviceKey, func(d model.Device) api.Device { return deviceOf(d, names.of(d.UserID)) }), nil
}

func (s *Service) device(ctx context.Context, id string) (model.Device, error) {
	d, err := s.Store.DeviceByID(ctx, id)
	if errors.Is(err, model.ErrNotFound) {
		return d, refuse(http.StatusNotFound, "", "there is no device %q; waxctl get devices lists them", id)
	}
	return d, err
}

func (s *Service) retire(ctx context.Context, in *deviceInput) (*body[api.Device], error) {
	return s.setState(ctx, in.ID, model.DeviceRetiring, "device.retire")
}

func (s *Service) wipe(ctx context.Context, in *deviceInput) (*body[api.Device], error) {
	return s.setState(ctx, in.ID, model.DeviceWiping, "device.wipe")
}

func (s *Service) setState(ctx context.Context, id string, to model.DeviceState, action string) (*body[api.Device], error) {
	before, err := s.device(ctx, id)
	if err != nil {
		return nil, err
	}
	err = s.Store.SetDeviceState(ctx, id, to, s.Clock(), s.entry(action, id, nil))
	if errors.Is(err, model.ErrConflict) {
		s.refused(ctx, action, id, "the device is "+string(before.State))
		return nil, refuse(http.StatusConflict, "", "device %s is %s and cannot become %s", id, before.State, to)
	}
	if err != nil {
		return nil, err
	}
	return s.changed(ctx, id)
}

func (s *Service) sync(ctx context.Context, in *deviceInput) (*body[api.Device], error) {
	if _, err := s.device(ctx, in.ID); err != nil {
		return nil, err
	}
	if err := s.Store.MarkDirty(ctx, in.ID, s.Clock(), s.entry("device.sync", in.ID, nil)); err != nil {
		return nil, err
	}
	return s.changed(ctx, in.ID)
}

// changed wakes the device, after the commit, and answers what it is now.
func (s *Service) changed(ctx context.Context, id string) (*body[api.Device], error) {
	s.Wake()
	d, err := s.device(ctx, id)
	if err != nil {
		return nil, err
	}
	names := s.upns()
	if err := names.load(ctx, d.UserID); err != nil {
		return nil, err
	}
	return &body[api.Device]{Body: deviceOf(d, names.of(d.UserID))}, nil
}

func (s *Service) certificates(ctx context.Context, in *pageInput) (*body[api.Page[api.Certificate]], error) {
	certificates, err := s.Store.Certificates(ctx, in.page())
	if err != nil {
		return nil, err
	}
	names, inUse := s.upns(), map[string]map[string]bool{} // by user
	for _, c := range certificates {
		if err := names.load(ctx, c.UserID); err != nil {
			return nil, err
		}
		if _, known := inUse[c.UserID]; known || c.Kind != model.CertificateImported {
			continue
		}
		if inUse[c.UserID], err = s.importedInUse(ctx, c.UserID); err != nil {
			return nil, err
		}
	}
	history := func(c model.Certificate) bool {
		return c.Kind == model.CertificateImported && c.Status == model.CertificateCurrent && !inUse[c.UserID][c.SHA256]
	}
	return pageOf(in, certificates, certificateKey, func(c model.Certificate) api.Certificate {
		return api.Certificate{SHA256: c.SHA256, Subject: c.Subject, Issuer: c.Issuer, Serial: c.Serial, Addresses: c.Addresses,
			NotBefore: c.NotBefore, NotAfter: c.NotAfter, Purpose: c.Purpose, Kind: string(c.Kind), User: names.of(c.UserID),
			DeviceID: c.DeviceID, Profile: c.Profile, CA: c.CA, RecordID: c.RecordID, Status: string(c.Status), History: history(c),
			StatusAt: c.StatusAt, DER: c.DER}
	}), nil
}

// importedInUse are a user's imported certificates that are the current ones of their purpose, by SHA-256.
func (s *Service) importedInUse(ctx context.Context, userID string) (map[string]bool, error) {
	u, err := s.Store.UserByID(ctx, userID)
	if err != nil && !errors.Is(err, model.ErrNotFound) {
		return nil, err
	}
	imported, err := s.Store.Imported(ctx, userID)
	if err != nil {
		return nil, err
	}
	of := map[profiles.Purpose][]profiles.Certificate{}
	for _, c := range imported {
		of[c.Purpose] = append(of[c.Purpose], c.Certificate)
	}
	inUse := map[string]bool{}
	for _, certificates := range of {
		for _, address := range u.Spec.Addresses {
			if c, ok := profiles.Current(certificates, address, s.Clock()); ok {
				inUse[c.SHA256] = true
			}
		}
	}
	return inUse, nil
}
