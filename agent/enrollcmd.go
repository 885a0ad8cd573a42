package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/waxseal/waxseal/agent/android"
	"github.com/waxseal/waxseal/agent/android/framework"
	"github.com/waxseal/waxseal/agent/apple"
	"github.com/waxseal/waxseal/agent/device"
	"github.com/waxseal/waxseal/agent/windows"
)

// enrolment is the flags of enroll.
type enrolment struct {
	phone                               apple.Config
	pc                                  windows.Config
	mode                                string
	platform, model, version            string
	ca, apnsCA, signature, secret, name string
}

func (c *cli) enroll() *cobra.Command {
	var e enrolment
	cmd := &cobra.Command{
		Use:   "enroll URL|FILE|LINK --platform ios --state DIR",
		Short: "Enrol a device: one of Apple's with a profile from a link or a .mobileconfig file, a PC with a link, a server or a mail address, one with Android with a link",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.settle(cmd, &e); err != nil {
				return err
			}
			switch e.platform {
			case device.PlatformWindows:
				return c.enrollPC(cmd.Context(), e, args[0])
			case device.PlatformAndroid:
				return c.enrollAndroid(cmd.Context(), e, args[0])
			}
			return c.enrollPhone(cmd.Context(), e, args[0])
		},
	}
	f := cmd.Flags()
	f.StringVar(&e.platform, "platform", "ios", "ios, macos, windows or android")
	f.StringVar(&e.ca, "ca", "", "PEM file with the roots that the owner trusts for TLS; kept in the state folder")
	f.StringVar(&e.version, "os-version", "", "version of the system (default "+device.DefaultOSVersion+", on a PC "+device.DefaultWindowsVersion+", with Android "+device.DefaultAndroidVersion+")")
	f.StringVar(&e.model, "model", "", "product name, as iPhone15,2 or iPad14,3 (default "+device.DefaultModel+")")
	f.StringVar(&e.phone.APNs, "apns", "", "URL of the simulated push service (waxseal-agent apns)")
	f.StringVar(&e.apnsCA, "apns-ca", "", "PEM file with the root of the push service; not needed on this machine")
	f.StringVar(&e.signature, "signature", "ber", "form of Mdm-Signature: ber (as iPhones send it) or der")
	f.StringVar(&e.pc.User, "user", "", "PC: who enrols, unless the link says it")
	f.StringVar(&e.secret, "secret-file", "", "PC: file with the password or one-time secret of the enrolment")
	f.StringSliceVar(&e.pc.AuthPolicies, "auth-policy", nil, "PC: what it offers to authenticate with: OnPremise,Federated (default both)")
	f.StringVar(&e.pc.EnrollmentType, "enrollment-type", windows.TypeFull, "PC: Full or Device")
	f.StringVar(&e.name, "csr-name", windows.CSRPrintable, "PC: form of the request's name: "+strings.Join([]string{windows.CSRPrintable, windows.CSRPrintableNUL, windows.CSRUTF8}, ", "))
	f.StringVar(&e.mode, "management-mode", string(framework.ModeCompanion), "Android: what the companion app may do: DEVICE_OWNER, PROFILE_OWNER, COMPANION (delegated scopes) or NONE")
	return cmd
}

// settle decides which kind of device it is: a folder that holds one keeps its kind.
func (c *cli) settle(cmd *cobra.Command, e *enrolment) error {
	if family(e.platform) == "" {
		return fmt.Errorf("--platform %s is not simulated; ios, macos, windows and android are", e.platform)
	}
	there := device.Platform(c.state)
	switch given := cmd.Flags().Changed("platform"); {
	case there == "":
	case !given:
		e.platform = there
	case family(there) != family(e.platform):
		return fmt.Errorf("the state folder holds a device of platform %s; use another --state for one of platform %s", there, e.platform)
	}
	var foreign []string
	for owner, flags := range familyFlags() {
		if owner != family(e.platform) {
			foreign = append(foreign, flags...)
		}
	}
	slices.Sort(foreign)
	for _, name := range foreign {
		if cmd.Flags().Changed(name) {
			return fmt.Errorf("--%s does not go with --platform %s", name, e.platform)
		}
	}
	return nil
}

// family is the kind of device that a platform is of; empty if none is simulated.
func family(platform string) string {
	switch platform {
	case "ios", "macos":
		return "apple"
	case device.PlatformWindows, device.PlatformAndroid:
		return platform
	}
	return ""
}

// familyFlags are the flags of enroll that one family alone has.
func familyFlags() map[string][]string {
	return map[string][]string{
		"apple":                {"apns", "apns-ca", "signature"},
		device.PlatformWindows: {"user", "secret-file", "auth-policy", "enrollment-type", "csr-name"},
		device.PlatformAndroid: {"management-mode"},
	}
}

func (c *cli) enrollPhone(ctx context.Context, e enrolment, source string) error {
	cfg := e.phone
	cfg.Platform, cfg.Model, cfg.OSVersion = e.platform, e.model, e.version
	var err error
	if cfg.CA, err = optionalFile(e.ca); err != nil {
		return err
	}
	if cfg.APNsCA, err = optionalFile(e.apnsCA); err != nil {
		return err
	}
	if cfg.Signature, err = signatureStyle(e.signature); err != nil {
		return err
	}
	return c.withPhone(cfg, func(d *apple.Device) error {
		if err := d.Enroll(ctx, source); err != nil {
			return err
		}
		system := "iOS"
		if d.Info().Platform == device.PlatformMac {
			system = "macOS"
		}
		fmt.Fprintf(c.Err, "enrolled: %s %s, %s %s, serial %s\n", d.Info().ModelName, d.Info().UDID, system, d.Info().OSVersion, d.Info().SerialNumber)
		return nil
	})
}

func (c *cli) enrollPC(ctx context.Context, e enrolment, source string) error {
	cfg := e.pc
	cfg.Model, cfg.OSVersion, cfg.CSRString = e.model, e.version, e.name
	var err error
	if cfg.CA, err = optionalFile(e.ca); err != nil {
		return err
	}
	if cfg.Secret, err = readSecret(e.secret); err != nil {
		return err
	}
	return c.withPC(cfg, func(d *windows.Device) error {
		if err := d.Enroll(ctx, source); err != nil {
			return err
		}
		fmt.Fprintf(c.Err, "enrolled: PC %s, Windows %s, serial %s\n", d.Info().DeviceName, d.Info().OSVersion, d.Info().SerialNumber)
		return nil
	})
}

func (c *cli) enrollAndroid(ctx context.Context, e enrolment, source string) error {
	cfg := android.Config{Model: e.model, OSVersion: e.version, ManagementMode: framework.Mode(e.mode)}
	var err error
	if cfg.CA, err = optionalFile(e.ca); err != nil {
		return err
	}
	return c.withAndroid(cfg, func(d *android.Device) error {
		if err := d.Enroll(ctx, source); err != nil {
			return err
		}
		fmt.Fprintf(c.Err, "enrolled: %s, Android %s (%s), serial %s\n", d.Info().DeviceName, d.Info().OSVersion, d.Info().BuildVersion, d.Info().SerialNumber)
		return nil
	})
}

// readSecret reads the first line of a file.
func readSecret(path string) (string, error) {
	raw, err := optionalFile(path)
	if err != nil {
		return "", fmt.Errorf("reading --secret-file: %w", err)
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	line = strings.TrimRight(line, "\r")
	if path != "" && line == "" {
		return "", errors.New("the file given as --secret-file has nothing on its first line")
	}
	return line, nil
}

func signatureStyle(name string) (apple.SignatureStyle, error) {
	switch name {
	case "ber":
		return apple.SignatureBER, nil
	case "der":
		return apple.SignatureDER, nil
	}
	return 0, fmt.Errorf("--signature %s is neither ber nor der", name)
}

func optionalFile(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	return os.ReadFile(path)
}
