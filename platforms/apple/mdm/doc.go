// Package mdm holds the messages between an Apple device and its management server: check-in, reports, commands. It
// encodes and decodes both ways, for a server and for a simulated device, and knows nothing of transport or state.
//
// Names are Apple's own words. Unknown keys are accepted everywhere, since real devices send undocumented ones, and the
// raw bytes stay beside each decoded message.
// Source: https://github.com/apple/device-management, folders mdm/checkin and mdm/commands.
package mdm
