package smtpserver

import "strings"

// A sessionSeed is a script to begin with, and the bits of sessionConfOf.
type sessionSeed struct {
	bits   uint16
	script string
}

// Content at the limits of bit 4: a line, and the whole.
var (
	sixty   = strings.Repeat("y", 60) + "\r\n"
	hundred = strings.Repeat("y", 36) + "\r\n" + sixty
)

var sessionSeeds = []sessionSeed{
	{0, "EM1R0Dl0l1l2.Q"},
	{1, "EM1R0R1R2Dl0l1l2.Q"},
	{2, "LM1R0R1R3Dl0l1l2.M0R0B10Q"},
	{3, "LM1R0R3R4R5R6Dl0l1l2.wM0R0R1B10Q"},
	{4, "EM0R0R1R2R3R4R5R6R7R8Dl0l1l2.s7Q"},
	{5, "EM0R0R2R3Dl0.M0R0R2R5Dl0.M0R6Dl0.Q"},
	{0x100, "EM0R4R7R8Dl0l1l3l4.Q"},
	{0x201, "EM0R8DlalbQ.wM0R4D.M0R7D.Q"},
	{0x302, "LM3R9B02B03B16M1R0DlvQ"},
	{0, "HM1R0B01B02wRM0R0B12Q"},
	{8, "EM1A2A0M1R0D.A0Q"},
	{8, "EA1A3A4A5A6A7A8A9AaAbAcAdM0Q"},
	{16, "EM1R0R1R2R4Dl6l6l0.M0R0Dlj.M0R0Dlk.M0R0B90B91Q"},
	{32, "O0OeOfOgOhQ"},
	{0, "O0O1O2O3O4O5O6O8O9OaObOcOdOiOjOkOlOmOnOoOpOqOrOsOtOuOvOwOxOyOzQ"},
	{0, "EM1R0Dl0|l1ws7!"},
	{0, "EM1R0Dl0.|!"},
	{1, "EM1R8Dl0.|!"},
	{0, "EM1R0B00|B20!"},
	{0, "EM1R0B81B00rM2R1B10Q"},
	{0, "EM1R0\xff\x00ZZQ"},
	{0, "EwfM1wFM1wfR0DwF.rM1R0wfDwl0F.rM1R0DwfwFl0.Q"},
	{0, "EM1R0Dl0kl1.M1Q"},
	{0, "EM1R0Dl0.PM1R0Dl0.NNNN"},
	{0, "ENEHLNVX?SN"},
	{0, "EM1R0Dlaw.M1R0Dlb.M1R0Dlc.M1R0Dld.M1R0Dle.M1R0Dlf.M1R0Dlg..Q"},
	{2, "LM1R0R0R1Dlz.Q"},
	{6, "LM1R0R1R2R0Dl0.B00Q"},
	{0, "EM1M2R0M1ED.rM6RaD.MaRdDl0.Q"},
	{0, "EM4RiD.M5RdDl0.M3R9RaRbRlDl0.MlR0D.Q"},
	{64, "EM0R0DlaM1R0Dlb.M1R0Dlc.M1R0Dld.M1R0Dlelf.M1R0Dlg..M1R0B1aM1R0B0nB1oQ"},
	{128, "EM0R0DlaM1R0Dlb.M1R0Dlc.M1R0Dld.M1R0Dlelf.M1R0Dlg..M1R0B1aM1R0B0nB1oQ"},
	{128 + 16, "EM0R0Dl6la6la.M1R0Dyyyy\n" + sixty + ".Q"},
	{0, "EM9R0DB0aB1dM0R0B1aQ"},
	{0x1000, "EM1R0R3R4R5R6R7R8Dl0.M1R1B10Q"},
	{0, "EM9R0DB10M9R0B00Ba1Q"},
	{0, "EM1" + strings.Repeat("R0R2", 10) + "R0Dl0.Q"},
	{4, "EM1" + strings.Repeat("R0R2", 10) + "R0Dl0.Q"},
	{16, "EM1R0Dl6l0.M0R0D" + sixty + ".M0R0Dy" + sixty + ".M0R0D." + sixty + ".Q"},
	{16, "EM1R0D" + hundred + ".M0R0Dy" + hundred + ".M0R0B00B0nM0R0D." + hundred + ".Q"},
	{0, "EM1R0B50|!"},
	{0, "EM1R0B50s7"},
	{1, "EM1R0B00|B50!"},
	{0, "EM1R0wfB00wFB10Q"},
	{0, "EM8R0Dlb.Q"},
	{0, "EM1R0B40s7"},
	{0, "EM1R0B40|!"},
	{0, "EM0DM0B10rDQ"},
	{16, "EM1R0Dl1" + sixty + ".M0R0Dl1y" + sixty + ".M0R0Dl1" + hundred + ".Q"},
	{16, "EM1R0R1Dl0.M1R0R1Dl0.M1R0R1R2R0B10Q"},
	{0, "wEwM1wR0wDwl0w.wB10wM1wR0wB00wB10wFOOwQw"},
	{18, "LM1R0R1B80B00B10M1R0Dl0.Q"},
	{0x800, "EM1R0R1Dl0l1l2.SM0R0B02B10A0Q"},
	{0x801, "EM0R0R2R3Dl0.M0R0R2R5Dl0.M0R8Dl0.Q"},
	{0x902, "LM1R0R1R3Dl0l1l2.M0R0B10Q"},
	{0x800, "EM1R0Dl0.PM1R0Dl0.NNNN"},
	{0x800, "EM1R0Dl0|l1!"},
	{16, "EM1R0R1B80M0R0R1R2rM0R0R1R2B10Q"}, // MAIL behind a refused chunk
	{0x800, "EM1R0Dl0s7"},
}
