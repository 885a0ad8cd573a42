package main

import (
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/waxseal/waxseal/agent/mail"
	"github.com/waxseal/waxseal/agent/smime"
	"github.com/waxseal/waxseal/profiles"
)

func (c *cli) mail() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "mail",
		Short: "Sign, encrypt, decrypt and verify mail: message on stdin, result on stdout",
	}
	cmd.PersistentFlags().StringVar(&c.app, "app", "", "Android: package of the mail app, which has the keys that it was granted (default "+profiles.PackageOutlook+")")
	cmd.AddCommand(c.mailSign(), c.mailEncrypt(), c.mailDecrypt(), c.mailVerify())
	return cmd
}

// mailCommand makes a command that turns the message on stdin into one on stdout.
func (c *cli) mailCommand(name, short string, do func(*mail.Program, []byte) ([]byte, error)) *cobra.Command {
	return &cobra.Command{
		Use: name + " --state DIR", Short: short, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			d, err := c.mailDevice()
			if err != nil {
				return err
			}
			message, err := io.ReadAll(io.LimitReader(c.In, smime.MaxSize+1))
			if err != nil {
				return fmt.Errorf("reading the message from stdin: %w", err)
			}
			out, err := do(mail.New(d, rand.Reader), message)
			if err != nil {
				return err
			}
			_, err = c.Out.Write(out)
			return err
		},
	}
}

// mailDevice is the device as its mail program sees it.
func (c *cli) mailDevice() (mail.Device, error) {
	d, err := c.view()
	if err != nil {
		return nil, err
	}
	r, ok := d.(robot)
	if !ok && c.app != "" {
		return nil, onlyAndroid("--app")
	}
	if ok {
		err = r.App(c.app).Check()
	}
	return d.desk(), err
}

func (c *cli) mailSign() *cobra.Command {
	var from string
	cmd := c.mailCommand("sign", "Sign a message as its sender", func(p *mail.Program, message []byte) ([]byte, error) {
		return p.Sign(message, from)
	})
	cmd.Flags().StringVar(&from, "from", "", "address whose account signs; otherwise that of the From field")
	return cmd
}

func (c *cli) mailEncrypt() *cobra.Command {
	var from string
	var files []string
	cmd := c.mailCommand("encrypt", "Encrypt a message to everybody whom it is for, and to its sender", func(p *mail.Program, message []byte) ([]byte, error) {
		certs, err := readCertificates(files)
		if err != nil {
			return nil, err
		}
		out, warning, err := p.Encrypt(message, from, certs)
		if warning != "" {
			fmt.Fprintln(c.Err, "warning:", warning)
		}
		return out, err
	})
	cmd.Use = "encrypt [--cert FILE…] --state DIR"
	cmd.Args = func(_ *cobra.Command, args []string) error { // --cert a.pem b.pem
		if len(args) > 0 && len(files) == 0 {
			return errors.New("encrypt reads the message from stdin; certificates are given with --cert FILE")
		}
		files = append(files, args...)
		return nil
	}
	cmd.Flags().StringVar(&from, "from", "", "address whose account encrypts; otherwise that of the From field")
	cmd.Flags().StringArrayVar(&files, "cert", nil, "file with a recipient's certificate; may be repeated")
	return cmd
}

func readCertificates(files []string) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading a recipient's certificate: %w", err)
		}
		cert, err := mail.ParseCertificate(raw)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", file, err)
		}
		out = append(out, cert)
	}
	return out, nil
}

func (c *cli) mailDecrypt() *cobra.Command {
	return c.mailCommand("decrypt", "Open a message with the key that it is encrypted to", func(p *mail.Program, message []byte) ([]byte, error) {
		out, verdict, err := p.Decrypt(message)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(c.Err, "opened with the key of %s (serial %X, expires %s)\n", profiles.NameString(out.Key.Certificate.Subject), out.Key.Certificate.SerialNumber, out.Key.Certificate.NotAfter.Format("2006-01-02"))
		switch {
		case verdict == nil:
		case verdict.Reason != nil:
			fmt.Fprintln(c.Err, "warning: signed inside, but not to be believed:", verdict.Reason)
		default:
			fmt.Fprintln(c.Err, "signed inside by", verdict.By())
		}
		return out.Message, nil
	})
}

func (c *cli) mailVerify() *cobra.Command {
	return c.mailCommand("verify", "Check who signed a message, and remember the sender's encryption certificate", func(p *mail.Program, message []byte) ([]byte, error) {
		v, err := p.Verify(message)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(c.Err, "signed by %s with a certificate of %s\n", v.By(), v.Signer.Issuer)
		if v.Remembered != nil {
			fmt.Fprintf(c.Err, "remembered the encryption certificate of %s (serial %X)\n", v.From, v.Remembered.SerialNumber)
		}
		return v.Message, nil
	})
}
