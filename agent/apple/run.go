package apple

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// pokeRetry is the pause after the push service could not be reached.
const pokeRetry = 5 * time.Second

// logonLook is how often a Mac that runs looks who is logged on.
const logonLook = time.Second

// Run keeps the device going until the context ends or the device leaves: it polls when a push arrives, and at an
// interval if there is one (real devices never poll). Faults of the server are logged and tried again.
func (d *Device) Run(ctx context.Context, interval time.Duration) error {
	if d.state.MDM == nil {
		return d.notEnrolled()
	}
	if d.state.APNs == "" && interval <= 0 {
		return errors.New("nothing wakes the device: give --apns URL at enrolment or an --interval")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wake := make(chan struct{}, 1)
	d.alarms(ctx, interval, wake)
	heard := map[string]bool{} // push tokens that are listened for
	for {
		r, err := d.Poll(ctx)
		d.listen(ctx, heard, wake)
		switch {
		case r.Left, errors.Is(err, ErrNotEnrolled):
			d.cfg.Log.Info("the device has left", "reason", d.state.Gone)
			return nil
		case ctx.Err() != nil:
			return nil
		case err != nil:
			d.cfg.Log.Warn("the connection failed", "reason", err)
			d.later(ctx, pokeRetry, wake)
		}
		for _, failure := range r.Failures {
			d.cfg.Log.Warn("a command failed", "reason", failure)
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// alarms starts what wakes the device beside pushes. Device fields are read here, not in the goroutines.
func (d *Device) alarms(ctx context.Context, interval time.Duration, wake chan<- struct{}) {
	if interval > 0 {
		go func() {
			for d.cfg.Clock.Sleep(ctx, interval) == nil {
				ring(wake)
			}
		}()
	}
	if !d.isMac() {
		return
	}
	folder, clock, was := d.folder, d.cfg.Clock, d.folder.Logon()
	go func() { // a user who logs on asks the server
		for clock.Sleep(ctx, logonLook) == nil {
			now := folder.Logon()
			if now != was {
				ring(wake)
			}
			was = now
		}
	}()
}

// listen waits for the pushes of every channel that there is by now.
func (d *Device) listen(ctx context.Context, heard map[string]bool, wake chan<- struct{}) {
	if d.state.APNs == "" {
		return
	}
	for _, channel := range append([]*Device{d}, d.users...) {
		if token := channel.state.PushToken; token != "" && !heard[token] {
			heard[token] = true
			channel.awaitPokes(ctx, wake)
		}
	}
}

func (d *Device) awaitPokes(ctx context.Context, wake chan<- struct{}) {
	client, target, err := d.pokeClient()
	if err != nil {
		d.cfg.Log.Warn("no pushes", "reason", err)
		return
	}
	magic := d.state.PushMagic
	go func() {
		for ctx.Err() == nil {
			got, err := awaitPoke(ctx, client, target)
			switch {
			case err != nil && ctx.Err() == nil:
				d.cfg.Log.Warn("the push service cannot be reached", "reason", err)
				_ = d.cfg.Clock.Sleep(ctx, pokeRetry)
			case got == magic:
				ring(wake)
			}
		}
	}()
}

func (d *Device) later(ctx context.Context, pause time.Duration, wake chan<- struct{}) {
	go func() {
		if d.cfg.Clock.Sleep(ctx, pause) == nil {
			ring(wake)
		}
	}()
}

func ring(wake chan<- struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// WaitForPoke waits for one push that carries the device's PushMagic; others are ignored, as devices do.
func (d *Device) WaitForPoke(ctx context.Context) error {
	client, target, err := d.pokeClient()
	if err != nil {
		return err
	}
	for {
		magic, err := awaitPoke(ctx, client, target)
		if err != nil || magic == d.state.PushMagic {
			return err
		}
	}
}

// pokeClient is the way to the simulated push service. A device has Apple's roots for its push connection built in;
// here they are given, or not needed on the loopback interface: a poke says nothing, it only makes the device ask its
// own server, which is authenticated.
func (d *Device) pokeClient() (*http.Client, string, error) {
	u, err := url.Parse(d.root().state.APNs)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, "", errors.New("the address of the push service must be an https URL")
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Time: d.now}
	pem, err := d.root().folder.APNsCA()
	if err != nil {
		return nil, "", err
	}
	switch ip := net.ParseIP(u.Hostname()); {
	case pem != nil:
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM(pem)
	case ip != nil && ip.IsLoopback():
		config.InsecureSkipVerify = true
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}}
	return client, strings.TrimSuffix(u.String(), "/") + "/poke/" + d.state.PushToken, nil
}

// awaitPoke waits for the next push and returns its magic, empty if there was none for a while.
func awaitPoke(ctx context.Context, client *http.Client, target string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", withoutURL(err)
	}
	defer resp.Body.Close() //nolint:errcheck // nothing is lost
	if resp.StatusCode == http.StatusNoContent {
		return "", nil
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the push service answers %s", resp.Status)
	}
	var body struct {
		MDM string `json:"mdm"`
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, 4096)).Decode(&body)
	return body.MDM, err
}
