// SPDX-License-Identifier: Apache-2.0
// The promises of queue/global_queue.hpp.
#include "queue/global_queue.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

namespace tuco::inline v1::queue {
namespace {

struct node {
  int number = 0;
  node* next = nullptr;
  node* other_link = nullptr;
};

class GlobalQueue : public ::testing::Test {
 protected:
  node n[16];
  global_queue<node> q;
};

TEST_F(GlobalQueue, PopsInOrderOfPush) {
  for (int i = 0; i < 3; ++i) q.push_back(&n[i]);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(q.pop_front(), &n[i]);
  EXPECT_EQ(q.pop_front(), nullptr);
  EXPECT_TRUE(q.empty());
}

TEST_F(GlobalQueue, PushedChainKeepsItsOrder) {
  q.push_back(&n[0]);
  n[1].next = &n[2];
  q.push_back_batch(&n[1], &n[2], 2);
  q.push_back(&n[3]);
  EXPECT_EQ(q.size(), 4u);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(q.pop_front(), &n[i]);
}

TEST_F(GlobalQueue, PushedArrayKeepsItsOrder) {
  node* array[] = {&n[3], &n[1], &n[2]};
  q.push_back_all(array, 3);
  q.push_back_all(array, 0);
  EXPECT_EQ(q.size(), 3u);
  for (node* want : array) EXPECT_EQ(q.pop_front(), want);
}

TEST_F(GlobalQueue, BatchTakesTheOldestAndLeavesTheRest) {
  for (int i = 0; i < 5; ++i) q.push_back(&n[i]);
  const auto batch = q.pop_front_batch(3);
  EXPECT_EQ(batch.count, 3u);
  EXPECT_EQ(batch.first, &n[0]);
  EXPECT_EQ(batch.last, &n[2]);
  EXPECT_EQ(n[0].next, &n[1]);
  EXPECT_EQ(n[2].next, nullptr);
  EXPECT_EQ(q.size(), 2u);
  EXPECT_EQ(q.pop_front(), &n[3]);
}

TEST_F(GlobalQueue, BatchOfAllLeavesAUsableQueue) {
  for (int i = 0; i < 2; ++i) q.push_back(&n[i]);
  EXPECT_EQ(q.pop_front_batch(100).count, 2u);
  EXPECT_EQ(q.pop_front_batch(100).count, 0u);
  q.push_back(&n[2]);
  EXPECT_EQ(q.pop_front(), &n[2]);
}

TEST_F(GlobalQueue, BatchOfZeroTakesNothing) {
  q.push_back(&n[0]);
  EXPECT_EQ(q.pop_front_batch(0).first, nullptr);
  EXPECT_EQ(q.size(), 1u);
}

TEST_F(GlobalQueue, PushFrontComesOutFirst) {
  q.push_front(&n[0]);
  q.push_back(&n[1]);
  q.push_front(&n[2]);
  EXPECT_EQ(q.pop_front(), &n[2]);
  EXPECT_EQ(q.pop_front(), &n[0]);
  EXPECT_EQ(q.pop_front(), &n[1]);
}

TEST_F(GlobalQueue, PoppedElementMayBePushedAtOnce) {
  q.push_back(&n[0]);
  q.push_back(&n[1]);
  q.push_back(q.pop_front());
  EXPECT_EQ(q.pop_front(), &n[1]);
  EXPECT_EQ(q.pop_front(), &n[0]);
}

TEST(GlobalQueueLink, MayBeAnyPointerMember) {
  node a, b;
  global_queue<node, &node::other_link> q;
  q.push_back(&a);
  q.push_back(&b);
  EXPECT_EQ(a.other_link, &b);
  EXPECT_EQ(a.next, nullptr);
}

// Readers without the lock may be late, never absurd; and every element comes out once.
TEST(GlobalQueueRace, SizeIsReadableWithoutTheLock) {
  constexpr int count = 100'000;
  std::vector<node> nodes(count);
  global_queue<node> q;
  std::mutex lock;
  std::atomic<bool> done{false};
  std::size_t largest = 0;
  std::thread reader([&] {
    while (!done.load()) largest = std::max(largest, q.size());
  });
  std::thread producer([&] {
    for (auto& n : nodes) {
      const std::scoped_lock guard(lock);
      q.push_back(&n);
    }
  });
  int popped = 0;
  while (popped < count) {
    if (q.empty()) {
      std::this_thread::yield();
      continue;
    }
    const std::scoped_lock guard(lock);
    auto batch = q.pop_front_batch(16);
    for (node* n = batch.first; n != nullptr; n = n->next) {
      ++n->number;
      ++popped;
    }
  }
  producer.join();
  done.store(true);
  reader.join();
  EXPECT_LE(largest, static_cast<std::size_t>(count));
  EXPECT_TRUE(q.empty());
  for (auto& n : nodes) ASSERT_EQ(n.number, 1);
}

}  // namespace
}  // namespace tuco::inline v1::queue
