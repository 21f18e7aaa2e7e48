package smtpserver

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// goSMTPVersion is the version whose server tests goSMTPTests names.
const goSMTPVersion = "v0.25.1"

// goSMTPTests are the tests of go-smtp's server_test.go and lmtp_server_test.go.
// Each is covered by a talk, or goSMTPElsewhere says why not.
var goSMTPTests = strings.Fields(`
	TestServerAcceptErrorHandling TestServer_helo TestServerAuthTwice TestServerCancelSASL TestServerEmptyFrom1
	TestServerEmptyFrom2 TestServerPanicRecover TestServerSMTPUTF8 TestServerSMTPUTF8_Disabled TestServer8BITMIME
	TestServer_BODYInvalidValue TestServerUnknownArg TestServerBadSize TestServerTooBig TestServerEmptyTo TestServer
	TestServer_LFDotLF TestServer_EmptyMessage TestServer_authDisabled TestServer_otherCommands
	TestServer_tooManyInvalidCommands TestServer_tooLongMessage TestServer_smtpSmuggling TestServer_tooLongLine
	TestServer_anonymousUserError TestServer_anonymousUserOK TestServer_authParam TestServerBdatDiscard
	TestServerBdatNoRecipientsDiscard TestServer_Chunking TestServer_Chunking_LMTP TestServer_Chunking_Reset
	TestServer_Chunking_ClosedInTheMiddle TestServer_Chunking_EarlyError TestServer_Chunking_EarlyErrorDuringChunk
	TestServer_Chunking_tooLongMessage TestServer_Chunking_lineLimitRestoredAfterReset
	TestServer_Chunking_lineLimitInsideTransaction TestServer_Chunking_Binarymime TestServer_TooLongCommand
	TestServerShutdown TestServerDSN TestServerDSNwithSMTPUTF8 TestServerRRVS TestServerDELIVERBY TestServerMTPRIORITY
	TestServer_LMTP TestServer_LMTP_tooLongMessage TestServer_LMTP_Early TestServer_LMTP_Expand TestServer_LMTP_DuplicatedRcpt
`)

// goSMTPElsewhere says which of goSMTPTests no talk covers, and why.
var goSMTPElsewhere = map[string]string{
	"TestServerAcceptErrorHandling": "is about Accept: TestAcceptErrors",
	"TestServerShutdown":            "is about Shutdown: TestDefectsShutdown, TestDefectsShutdownTimeout; idle connections are closed here",
	"TestServerSMTPUTF8_Disabled":   "SMTPUTF8 is always offered",
	"TestServer_LMTP_Early":         "the messages of all recipients are committed together, so that no reply can come before the others",
}

// TestGoSMTPCoverage: what clients of go-smtp rely on is in the tables.
func TestGoSMTPCoverage(t *testing.T) {
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(mod), "github.com/emersion/go-smtp "+goSMTPVersion+"\n") {
		t.Errorf("go-smtp is not %s any more: compare the list with its tests", goSMTPVersion)
	}
	covered := map[string]string{}
	for name, why := range goSMTPElsewhere {
		covered[name] = why
	}
	for _, table := range talkTables {
		for _, row := range table {
			for _, name := range strings.Fields(row.covers) {
				covered[name] = row.name
			}
		}
	}
	for _, name := range goSMTPTests {
		if covered[name] == "" {
			t.Errorf("%s has no talk and no reason why not", name)
		}
	}
	for name, by := range covered {
		if !slices.Contains(goSMTPTests, name) {
			t.Errorf("%s, covered by %q, is not in the list", name, by)
		}
	}
}

// TestTalkNames: every talk can be asked for by its name.
func TestTalkNames(t *testing.T) {
	seen := map[string]bool{}
	for _, table := range talkTables {
		for _, row := range table {
			if row.name == "" || row.rule == "" || seen[row.name] {
				t.Errorf("talk %q: the name must be there and unique, the rule %q must be there", row.name, row.rule)
			}
			seen[row.name] = true
		}
	}
}
