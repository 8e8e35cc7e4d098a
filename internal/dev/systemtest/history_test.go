package systemtest

import (
	"fmt"
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/proxy"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/proto"

	"narthex/internal/codec"
	"narthex/internal/dev/teststack"
	"narthex/internal/signup"
)

// runsOf lists the visibility records of an email's signups, newest first.
func runsOf(s *teststack.Stack, email string) []*workflowpb.WorkflowExecutionInfo {
	s.T.Helper()
	return recordsOf(s, signupOf(s, email))
}

// signupOf returns the workflow id of an email's signups.
func signupOf(s *teststack.Stack, email string) (workflowID string) {
	s.T.Helper()
	hash, err := s.Keys.EmailIndex(email)
	if err != nil {
		s.T.Fatal(err)
	}
	return signup.WorkflowID(hash)
}

// recordsOf lists the visibility records of a workflow id, newest first.
func recordsOf(s *teststack.Stack, workflowID string) []*workflowpb.WorkflowExecutionInfo {
	s.T.Helper()
	response, err := s.Temporal.ListWorkflow(s.T.Context(), &workflowservice.ListWorkflowExecutionsRequest{
		Namespace: "default", Query: fmt.Sprintf("WorkflowId = '%s'", workflowID),
	})
	if err != nil {
		s.T.Fatalf("list the runs of %s: %v", workflowID, err)
	}
	return response.Executions
}

// history returns the events of one run; an empty run id means the newest of the workflow id.
func history(s *teststack.Stack, workflowID, runID string) *historypb.History {
	s.T.Helper()
	var history historypb.History
	events := s.Temporal.GetWorkflowHistory(s.T.Context(), workflowID, runID, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		event, err := events.Next()
		if err != nil {
			s.T.Fatalf("read history: %v", err)
		}
		history.Events = append(history.Events, event)
	}
	return &history
}

// dump returns everything that Temporal stores about an email's signups, as it is sent over the network.
func dump(s *teststack.Stack, email string) string {
	s.T.Helper()
	return dumpOf(s, signupOf(s, email))
}

// dumpOf is like dump, for a workflow id.
func dumpOf(s *teststack.Stack, workflowID string) string {
	s.T.Helper()
	var dump strings.Builder
	var runs []*workflowpb.WorkflowExecutionInfo
	teststack.Eventually(s.T, "the visibility record of "+workflowID, func() bool {
		runs = recordsOf(s, workflowID)
		return len(runs) > 0
	})
	for _, run := range runs {
		for _, message := range []proto.Message{run, history(s, run.Execution.WorkflowId, run.Execution.RunId)} {
			raw, err := proto.Marshal(message)
			if err != nil {
				s.T.Fatal(err)
			}
			dump.Write(raw)
		}
	}
	return dump.String()
}

// inputOf returns what the newest signup of an email was started with.
func inputOf(s *teststack.Stack, email string) signup.Input {
	s.T.Helper()
	hash, err := s.Keys.EmailIndex(email)
	if err != nil {
		s.T.Fatal(err)
	}
	started := history(s, signup.WorkflowID(hash), "").Events[0].GetWorkflowExecutionStartedEventAttributes()
	var input signup.Input
	sealing := converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), codec.New(s.Keys))
	if err := sealing.FromPayloads(started.Input, &input); err != nil {
		s.T.Fatalf("decode input: %v", err)
	}
	return input
}

// replay starts a signup again with its own input, as an operator does, and expects it to succeed.
func replay(s *teststack.Stack, input signup.Input) {
	s.T.Helper()
	run, err := s.Temporal.ExecuteWorkflow(s.T.Context(), client.StartWorkflowOptions{
		ID: signup.WorkflowID(input.EmailHash), TaskQueue: s.Queue,
	}, signup.Workflow, input)
	if err == nil {
		err = run.Get(s.T.Context(), nil)
	}
	if err != nil {
		s.T.Fatalf("replay: %v", err)
	}
}

// opened returns a history with its payloads opened, so that any build can replay it.
func opened(s *teststack.Stack, history *historypb.History) *historypb.History {
	s.T.Helper()
	clone := proto.Clone(history).(*historypb.History)
	err := proxy.VisitPayloads(s.T.Context(), clone, proxy.VisitPayloadsOptions{
		SkipSearchAttributes: true,
		Visitor: func(_ *proxy.VisitPayloadsContext, payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
			return codec.New(s.Keys).Decode(payloads)
		},
	})
	if err != nil {
		s.T.Fatalf("open history: %v", err)
	}
	return clone
}
