package csp

import (
	"strings"

	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

// dmClient is DMClient (windows.md section 3.7). There is one provider: the server that enrolled the PC.
func dmClient() *provider {
	const at = "Provider/*/"
	leaf := func(name, access, format, initial string) row {
		return row{path: at + name, access: access, format: format, initial: initial, scopes: "D"}
	}
	rows := []row{
		{path: "HWDevID", access: "G", format: formatChr, scopes: "D", read: hwDevID},
		{path: "Unenroll", access: "XG", format: formatNull, scopes: "D", exec: unenroll},
		{path: "Provider/*", access: "G", format: formatNode, names: enrolledBy},
		{path: at + "HWDevID", access: "G", format: formatChr, scopes: "D", read: hwDevID},
		{path: at + "Unenroll", access: "XG", format: formatNull, scopes: "D", exec: unenroll},
		leaf("EntDMID", "ADGR", formatChr, ""),
		leaf("EntDeviceName", "AGR", formatChr, ""),
		leaf("UPN", "AGR", formatChr, ""),
		leaf("EnrollmentType", "G", formatChr, ""),
		leaf("ManagementServiceAddress", "GR", formatChr, ""),
		leaf("ManagementServerAddressList", "GR", formatChr, ""),
		leaf("SyncApplicationVersion", "ADGR", formatChr, "1.0"),
		leaf("MaxSyncApplicationVersion", "G", formatChr, "3.0"),
		leaf("RequireMessageSigning", "ADGR", formatBool, "false"),
		leaf("EnableOmaDmKeepAliveMessage", "GR", formatBool, "false"),
		leaf("NumberOfDaysAfterLostContactToUnenroll", "ADGR", formatInt, ""),
		leaf("Push/PFN", "ADGR", formatChr, ""),
		leaf("Push/ChannelURI", "G", formatChr, ""),
		leaf("Push/Status", "G", formatInt, ""),
		leaf("EnhancedAppLayerSecurity/SecurityMode", "ADGR", formatInt, "0"),
		leaf("ConfigRefresh/Enabled", "ADGR", formatBool, "false"),
		leaf("ConfigRefresh/Cadence", "ADGR", formatInt, "90"),
		leaf("ConfigRefresh/PausePeriod", "ADGR", formatInt, "0"),
	}
	return &provider{root: microsoft("DMClient"), scopes: "UD", creates: true, guard: ownProvider,
		rows: append(append(rows, pollRows(at+"Poll/")...), firstSyncRows(at+"FirstSyncStatus/")...)}
}

// pollRows are the three schedules of windows.md section 2.7.
func pollRows(at string) []row {
	var rows []row
	leaf := func(name, format, initial string) {
		rows = append(rows, row{path: at + name, access: "ADGR", format: format, initial: initial, scopes: "D"})
	}
	leaf("NumberOfFirstRetries", formatInt, "10")
	leaf("IntervalForFirstSetOfRetries", formatInt, "15")
	leaf("NumberOfSecondRetries", formatInt, "0")
	leaf("IntervalForSecondSetOfRetries", formatInt, "0")
	leaf("NumberOfRemainingScheduledRetries", formatInt, "0")
	leaf("IntervalForRemainingScheduledRetries", formatInt, "0")
	leaf("PollOnLogin", formatBool, "false")
	leaf("AllUsersPollOnFirstLogin", formatBool, "false")
	return rows
}

func firstSyncRows(at string) []row {
	return []row{
		{path: at + "ExpectedPFXCerts", access: "ADGR", format: formatChr},
		{path: at + "ExpectedSCEPCerts", access: "ADGR", format: formatChr},
		{path: at + "ServerHasFinishedProvisioning", access: "GR", format: formatBool, initial: "false"},
		{path: at + "IsSyncDone", access: "GR", format: formatBool, initial: "false"},
		{path: at + "TimeOutUntilSyncFailure", access: "GR", format: formatInt, initial: "60", check: between(1, 1440)},
	}
}

func enrolledBy(p *PC, _ place) []string {
	if p.cfg.ProviderID == "" {
		return nil
	}
	return []string{p.cfg.ProviderID}
}

// ownProvider refuses nodes of management servers that did not enrol the PC.
func ownProvider(p *PC, l place) bool {
	return len(l.names) < 2 || strings.EqualFold(l.names[1], p.cfg.ProviderID)
}

func hwDevID(p *PC, _ place) (string, bool) { return p.cfg.HWDevID, p.cfg.HWDevID != "" }

// unenroll needs the provider's id as data (windows.md section 2.8).
func unenroll(t *transaction, _ place, data string) outcome {
	if strings.TrimSpace(data) != t.pc.cfg.ProviderID {
		return fail(syncml.StatusBadRequest, errInvalidArgument)
	}
	t.effects.Unenroll = true
	return outcome{}
}

// remoteWipe is RemoteWipe (windows.md section 3.9): its status says that the command was accepted, no more.
func remoteWipe() *provider {
	rows := []row{
		{path: "AutomaticRedeployment/LastError", access: "G", format: formatInt, initial: "0"},
		{path: "AutomaticRedeployment/Status", access: "G", format: formatInt, initial: "0"},
	}
	for _, name := range []string{
		"doWipe", "doWipePersistProvisionedData", "doWipeProtected", "doWipePersistUserData", "doWipeCloud",
		"doWipeCloudPersistUserData", "doWipeCloudPersistProvisionedData", "AutomaticRedeployment/doAutomaticRedeployment",
	} {
		rows = append(rows, row{path: name, access: "X", format: formatChr, exec: wipe})
	}
	return &provider{root: microsoft("RemoteWipe"), scopes: "D", rows: rows}
}

func wipe(t *transaction, _ place, _ string) outcome {
	t.effects.Wipe = true
	return outcome{}
}

// fact is a leaf that the PC knows from its configuration.
func fact(path, format string, of func(Config) string) row {
	return row{path: path, access: "G", format: format, read: func(p *PC, _ place) (string, bool) {
		value := of(p.cfg)
		return value, value != ""
	}}
}

func fixed(path, format, value string) row {
	return fact(path, format, func(Config) string { return value })
}

// devInfo is DevInfo (windows.md section 3.8).
func devInfo() *provider {
	return &provider{root: []string{"DevInfo"}, rows: []row{
		fact("DevId", formatChr, func(c Config) string { return c.DeviceID }),
		fact("Man", formatChr, func(c Config) string { return c.Manufacturer }),
		fact("Mod", formatChr, func(c Config) string { return c.Model }),
		fixed("DmV", formatChr, "1.3"),
		fixed("Lang", formatChr, "en-US"),
	}}
}

// devDetail is DevDetail (windows.md section 3.8). A new DeviceName is taken at once, without the restart that Windows wants.
func devDetail() *provider {
	const ext = "Ext/Microsoft/"
	name := row{path: ext + "DeviceName", access: "GR", format: formatChr, check: notEmpty}
	name.read = (*PC).deviceName
	name.write = func(t *transaction, l place, value string) outcome {
		t.pc.store(l, value)
		return outcome{}
	}
	return &provider{root: []string{"DevDetail"}, rows: []row{
		name,
		{path: ext + "DNSComputerName", access: "G", format: formatChr, read: func(p *PC, l place) (string, bool) {
			return p.deviceName(l.up(2).down("DeviceName"))
		}},
		fact("SwV", formatChr, func(c Config) string { return c.Build }),
		fact("OEM", formatChr, func(c Config) string { return c.Manufacturer }),
		fact("DevTyp", formatChr, func(c Config) string { return c.Model }),
		fact(ext+"SMBIOSSerialNumber", formatChr, func(c Config) string { return c.SerialNumber }),
		fact(ext+"LocalTime", formatChr, func(c Config) string { return c.Now().Format("2006-01-02T15:04:05.0000000Z07:00") }),
		fixed("HwV", formatChr, "1.0"),
		fixed("FwV", formatChr, "1.0"),
		fixed("LrgObj", formatBool, "false"),
		fixed("URI/MaxDepth", formatInt, "0"),
		fixed("URI/MaxTotLen", formatInt, "0"),
		fixed("URI/MaxSegLen", formatInt, "0"),
		fixed(ext+"OSPlatform", formatChr, "Windows 11 Enterprise"),
		fixed(ext+"TotalRAM", formatInt, "16384"),
		fixed(ext+"ProcessorArchitecture", formatInt, "9"),
	}}
}

// deviceName is what a server last wrote, or the name that the PC was set up with.
func (p *PC) deviceName(l place) (string, bool) {
	if n, ok := p.state.nodes[l.key()]; ok {
		return n.Value, true
	}
	return p.cfg.DeviceName, p.cfg.DeviceName != ""
}

// deviceStatus is the one node of DeviceStatus by which a server learns of a TPM.
func deviceStatus() *provider {
	return &provider{root: microsoft("DeviceStatus"), scopes: "D", rows: []row{
		fact("TPM/SpecificationVersion", formatChr, func(c Config) string {
			if c.Rules.NoTPM {
				return "Not Available"
			}
			return "2.0"
		}),
	}}
}
