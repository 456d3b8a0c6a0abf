;; Against a running server: nbb test.cljs
(require '[world-runtime :as world])

(let [base (world/create-world {:metadata {:from "clojure"}})
      _ (world/execute-in-verse (:id base) "x = 41")
      verses (world/push-down base)
      values (let [three ((juxt :verse-nash :verse-optimal :verse-chaos) verses)
                   told (world/execute-in-verses (into {} (map (juxt :world-id #(str "x + " (:trit %))) three)))]
               (map #(:value (get told (:world-id %))) three))
      pulled (world/pull-up (assoc-in verses [:verse-nash :balance] 5) :optimal)
      told {:values values
            :gf3-sum (:gf3-sum verses)
            :winner (:verse (:winner pulled))
            :wev (:wev pulled)
            :collapsed (sort (:collapsed pulled))
            :refused (:error_code (world/execute-in-verse "nowhere" "1"))}
      expected {:values ["40" "41" "42"]
                :gf3-sum 0
                :winner "optimal"
                :wev 5
                :collapsed ["chaos" "nash"]
                :refused "instance_not_found"}]
  (when-not (= told expected)
    (println "expected" expected "and got" told)
    (js/process.exit 1)))
