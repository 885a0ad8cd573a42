package config

import (
	"fmt"
	"net/url"

	"github.com/spf13/pflag"
)

// Webhook is who is told of what expires.
type Webhook struct {
	URL        string
	SecretFile string
	CA         string
}

func (w *Webhook) flags(f *pflag.FlagSet) {
	f.StringVar(&w.URL, "webhook", "", "URL that is told of certificates and CAs that expire, by POST; default: nobody")
	f.StringVar(&w.SecretFile, "webhook-secret-file", "", "file with the secret that signs what the webhook is told (HMAC-SHA256)")
	f.StringVar(&w.CA, "webhook-ca", "", "CA of the webhook, PEM, for one that the system does not trust")
}

func (w *Webhook) check() error {
	if w.URL == "" {
		if w.SecretFile != "" || w.CA != "" {
			return fmt.Errorf("webhook: --webhook-secret-file and --webhook-ca need --webhook")
		}
		return nil
	}
	u, err := url.Parse(w.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil {
		return fmt.Errorf("webhook: it is a URL such as https://alerts.example.com/waxseal, without a user")
	}
	return nil
}
