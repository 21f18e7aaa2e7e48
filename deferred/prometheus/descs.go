package prometheus

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/deferredqueue/deferredqueue/queue"
)

// descs are the metrics that there are.
type descs struct {
	all     []*prometheus.Desc
	labels  prometheus.Labels
	records map[queue.RecordType]*prometheus.Desc

	rebound                                             *prometheus.Desc
	retries, recordsWaiting, recordsDropped             *prometheus.Desc
	untilInject, inject, handler                        *prometheus.Desc
	kept, keptBytes, unrouted, damaged, queues, oldest  *prometheus.Desc
	accepting, readable                                 *prometheus.Desc
	ready, scheduled, held, final, running, overdue     *prometheus.Desc
	bytes, queueOldest, classWaiting, classOldest       *prometheus.Desc
	spoolEntries, spoolBytes, spoolGroups, spoolChanges *prometheus.Desc
	spoolWritten, spoolSegments, spoolSegmentBytes      *prometheus.Desc
	spoolLiveBytes, spoolSpareBytes, spoolCheckpoints   *prometheus.Desc
	spoolMoved, spoolSetAside                           *prometheus.Desc
}

func newDescs(labels prometheus.Labels) descs {
	d := descs{labels: labels}
	d.records = map[queue.RecordType]*prometheus.Desc{
		queue.Reception:        d.add("messages_received_total", "Messages accepted."),
		queue.Delivery:         d.add("messages_delivered_total", "Messages that left the host: handlers that succeeded, or the inject callback where there are none."),
		queue.TransientFailure: d.add("messages_transfail_total", "Attempts that failed, and messages that were held."),
		queue.Bounce:           d.add("messages_fail_total", "Messages that were rejected for good."),
		queue.Expiration:       d.add("messages_expired_total", "Messages whose life was over."),
		queue.AdminBounce:      d.add("messages_admin_bounced_total", "Messages that policy or an operator ended."),
		queue.AdminRebind:      d.add("messages_admin_rebound_total", "Messages that an operator moved, retried or released."),
		queue.Rejection:        d.add("rejections_total", "Replies 4xx and 5xx to clients."),
		queue.Delayed:          d.add("delay_notices_total", "Senders that were told of a delay."),
	}
	d.rebound = d.add("messages_rebound_total", "Messages that passed the inject callback and were bound for another queue.")
	d.retries = d.add("retries_total", "Failed attempts after which the message is tried again, by cause.", "cause")
	d.recordsWaiting = d.add("records_waiting", "Records that wait to be taken.")
	d.recordsDropped = d.add("rejection_records_dropped_total", "Records of rejections that found no room.")
	d.untilInject = d.add("until_inject_seconds", "From the reception of a message to the first call of the inject callback.")
	d.inject = d.add("inject_seconds", "How long calls of the inject callback took.")
	d.handler = d.add("handler_seconds", "How long calls of other handlers took.")
	d.kept = d.add("kept_messages", "Messages accepted in memory and not stored: what a crash loses.")
	d.keptBytes = d.add("kept_bytes", "The size of these.")
	d.unrouted = d.add("unrouted_messages", "Messages in queues that have no handler.")
	d.damaged = d.add("damaged_entries", "Damaged entries of the spool that were found.")
	d.queues = d.add("queues", "Queues that have messages.")
	d.oldest = d.add("oldest_waiting_seconds", "Age of the message that waits longest.")
	d.accepting = d.add("accepting", "1 while messages are accepted, 0 while clients are told to try again.")
	d.readable = d.add("spool_readable", "1 if the counts of the spool are part of this scrape.")

	d.ready = d.add("ready_messages", "Messages that are due and wait for a handler, in memory.", "queue")
	d.scheduled = d.add("scheduled_messages", "Messages in the spool that are due later, or not claimed yet.", "queue")
	d.held = d.add("held_messages", "Messages that wait for an operator.", "queue")
	d.final = d.add("final_messages", "Messages that have ended and whose record is not taken yet.", "queue")
	d.running = d.add("running_handlers", "Handlers that run.", "queue")
	d.overdue = d.add("overdue_handlers", "Handlers that run past their deadline.", "queue")
	d.bytes = d.add("queue_bytes", "The size of all messages of a queue.", "queue")
	d.queueOldest = d.add("queue_oldest_waiting_seconds", "Age of the message of a queue that waits longest.", "queue")
	d.classWaiting = d.add("class_waiting_messages", "Messages of a class that wait.", "queue", "class")
	d.classOldest = d.add("class_oldest_waiting_seconds", "Age of the message of a class that waits longest.", "queue", "class")

	d.spoolEntries = d.add("spool_entries", "Entries that are stored.")
	d.spoolBytes = d.add("spool_bytes", "Bytes that are stored: what a quota is about.")
	d.spoolGroups = d.add("spool_groups_total", "Groups that were made durable, by one sync each.")
	d.spoolChanges = d.add("spool_changes_total", "Changes in these groups.")
	d.spoolWritten = d.add("spool_written_bytes_total", "Bytes of these groups.")
	d.spoolSegments = d.add("spool_segments", "Files of the log.")
	d.spoolSegmentBytes = d.add("spool_segment_bytes", "Bytes that groups take in the files of the log.")
	d.spoolLiveBytes = d.add("spool_live_bytes", "Bytes of these that are needed.")
	d.spoolSpareBytes = d.add("spool_spare_bytes", "Bytes that are allocated ahead.")
	d.spoolCheckpoints = d.add("spool_checkpoints_total", "Checkpoints of the index.")
	d.spoolMoved = d.add("spool_moved_bytes_total", "Bytes that were moved to make room.")
	d.spoolSetAside = d.add("spool_set_aside", "Entries, parts of the log and files that are damaged.")
	return d
}

func (d *descs) add(name, help string, labels ...string) *prometheus.Desc {
	desc := prometheus.NewDesc("deferredqueue_"+name, help, labels, d.labels)
	d.all = append(d.all, desc)
	return desc
}
