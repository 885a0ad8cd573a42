package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/waxseal/waxseal/server/internal/pki"
)

const (
	addressFile = "address"
	// pkiAddressFile names where the plain listener is bound.
	pkiAddressFile = "pki-address"
)

func databaseFile(dir string) string { return filepath.Join(dir, "waxseal.db") }

// listeners are the bound sockets.
type listeners struct {
	main, device net.Listener
	pki          net.Listener // plain http; nil: none
	url          string       // of main, as bound
}

func (l *listeners) close() {
	for _, one := range []net.Listener{l.main, l.device, l.pki} {
		if one != nil {
			_ = one.Close() // closed before when the server ran
		}
	}
}

func listen(ctx context.Context, c Config) (*listeners, error) {
	l := &listeners{main: c.Listener, device: c.DeviceListener}
	var err error
	if l.main == nil {
		if l.main, err = bind(ctx, formerAddress(c.Settings.Data, addressFile, c.Settings.Listen), c.Settings.Listen); err != nil {
			return nil, err
		}
	}
	if l.device == nil && c.Settings.DeviceListen != "" {
		if l.device, err = bind(ctx, "", c.Settings.DeviceListen); err != nil {
			l.close()
			return nil, err
		}
	}
	if c.Settings.PKIListen != "" {
		if l.pki, err = bind(ctx, formerAddress(c.Settings.Data, pkiAddressFile, c.Settings.PKIListen), c.Settings.PKIListen); err != nil {
			l.close()
			return nil, err
		}
	}
	l.url = "https://" + l.main.Addr().String()
	return l, nil
}

// bind listens on the preferred address if it is free, else on the other.
func bind(ctx context.Context, preferred, address string) (net.Listener, error) {
	var config net.ListenConfig
	if preferred != "" {
		if l, err := config.Listen(ctx, "tcp", preferred); err == nil {
			return l, nil
		}
	}
	l, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", address, err)
	}
	return l, nil
}

// formerAddress is where the server was bound last, when it may choose its port: devices and
// certificates know it by that port.
func formerAddress(dir, file, address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil || port != "0" {
		return ""
	}
	raw, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return ""
	}
	u, err := url.Parse(strings.TrimSpace(string(raw)))
	if err != nil || u.Hostname() != host {
		return ""
	}
	return u.Host
}

// announce writes the bound URL, last of all: who waits for the file finds a server that answers.
func (s *server) announce(bound string) {
	if err := pki.WriteFile(filepath.Join(s.Settings.Data, addressFile), []byte(bound+"\n"), 0o644); err != nil {
		s.Logger.Error("writing the bound address failed", "error", err.Error())
	}
	if s.pkiBound != "" {
		if err := pki.WriteFile(filepath.Join(s.Settings.Data, pkiAddressFile), []byte("http://"+s.pkiBound+"\n"), 0o644); err != nil {
			s.Logger.Error("writing the bound address failed", "error", err.Error())
		}
	}
	s.Logger.Info("serving", "address", bound, "publicURL", s.fixed.PublicURL, "data", s.Settings.Data)
	s.Started(bound)
}
